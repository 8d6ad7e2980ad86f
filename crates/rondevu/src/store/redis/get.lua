-- Reads one session.
-- ARGV[1]: the code. ARGV[2]: the origin, with its length. ARGV[3]: the time now.
-- Returns the session's fields and their values, or an empty list.
if find(ARGV[1], ARGV[2], ARGV[3]) then
  return redis.call('HGETALL', session_key(ARGV[1]))
end
return {}
