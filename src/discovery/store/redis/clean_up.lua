-- Forgets sessions that are over.
-- ARGV[1]: the time now. ARGV[2]: the most sessions to forget.
-- Returns how many were forgotten, and how many are left that are not over.
local gone = clean_up(ARGV[1], ARGV[2])
return { gone, redis.call('ZCOUNT', ends, '(' .. ARGV[1], '+inf') }
