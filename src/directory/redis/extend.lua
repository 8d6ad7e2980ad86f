-- Extends a lease, or makes it again where Redis has lost it.
-- KEYS[1]: the node's key. ARGV[1]: the owner. ARGV[2]: its time to live in milliseconds.
-- Returns 1 if the lease was extended, 2 if it was made again, 0 if another owner has it.
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
if holder and string.match(holder, '^%x+:%d+$') then
  return 0
end
-- Nothing, or a text that names no owner.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 2
