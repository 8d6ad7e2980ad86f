-- Appends a candidate to those of a side, and publishes that.
-- ARGV[1]: the command that publishes. ARGV[2]: the message. ARGV[3]: the code. ARGV[4]: the
-- origin, with its length. ARGV[5]: the time now. ARGV[6]: the candidate. ARGV[7]: the bytes that a
-- candidate takes beside its text. ARGV[8]: the most bytes of a session. ARGV[9]: of all sessions.
-- ARGV[10]: the side. ARGV[11]: the most candidates.
-- Returns 'done', or why not: 'not_found', 'too_many_candidates', 'session_too_large',
-- 'too_many_bytes'.
local code = ARGV[3]
if not find(code, ARGV[4], ARGV[5]) then
  return 'not_found'
end
local session = session_key(code)
if tonumber(redis.call('HGET', session, 'candidates')) >= tonumber(ARGV[11]) then
  return 'too_many_candidates'
end
local refusal = resize(code, #ARGV[6] + tonumber(ARGV[7]), 0, ARGV[8], ARGV[9])
if refusal then
  return refusal
end
local number = redis.call('HINCRBY', session, 'candidates', 1)
redis.call('HSET', session, ARGV[10] .. ':' .. number, ARGV[6])
redis.call(ARGV[1], KEYS[2], ARGV[2])
return 'done'
