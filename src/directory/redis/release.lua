-- Gives an ID back, unless another owner has it by now.
-- KEYS[1]: the node's key. ARGV[1]: the owner.
-- Returns 1 if the key was the owner's, 0 if not.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
