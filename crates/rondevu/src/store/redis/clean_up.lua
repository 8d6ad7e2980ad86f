-- Removes expired sessions.
-- ARGV[1]: the time now. ARGV[2]: the most sessions to remove.
-- Returns how many were removed, and how many remain that have not expired.
local removed = clean_up(ARGV[1], ARGV[2])
return { removed, redis.call('ZCOUNT', ends, '(' .. ARGV[1], '+inf') }
