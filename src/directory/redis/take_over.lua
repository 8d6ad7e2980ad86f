-- Gives an ID to a new owner if the one that was asked about still has it, or nobody does.
-- KEYS[1]: the node's key. ARGV[1]: what stood there. ARGV[2]: the new owner.
-- ARGV[3]: its time to live in milliseconds.
-- Returns 1 if the new owner has the ID, or else what stands there.
if redis.call('TYPE', KEYS[1]).ok == 'string' then
  local holder = redis.call('GET', KEYS[1])
  if holder ~= ARGV[1] then
    return holder
  end
end
-- Nothing, or something that is no lease at all.
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
