-- Sets a session's answer, which replaces an earlier one, and publishes that.
-- ARGV[1]: the command that publishes. ARGV[2]: the message. ARGV[3]: the code. ARGV[4]: the
-- origin, with its length. ARGV[5]: the time now. ARGV[6]: the answer. ARGV[7]: the bytes that an
-- answer takes beside its text. ARGV[8]: the most bytes of a session. ARGV[9]: of all sessions.
-- ARGV[10]: the hash of the secret that came with it, or nothing.
-- Returns 'done', or why not: 'not_found', 'session_too_large', 'too_many_bytes'.
local code, overhead = ARGV[3], tonumber(ARGV[7])
local place = find(code, ARGV[4], ARGV[5])
if not place then
  return 'not_found'
end
local session = session_key(code)
local replaced = redis.call('HSTRLEN', session, 'answer')
if replaced > 0 then
  replaced = replaced + overhead
end
local refusal = resize(code, #ARGV[6] + overhead, replaced, ARGV[8], ARGV[9])
if refusal then
  return refusal
end
redis.call('HSET', session, 'answer', ARGV[6])
local answers = redis.call('HINCRBY', session, 'answers', 1)
if ARGV[10] ~= '' then
  -- With the number of its answer: replicas of an earlier version replace only the answer.
  redis.call('HSET', session, 'answer_secret', answers .. ':' .. ARGV[10])
end
unlist(code, place)
redis.call(ARGV[1], KEYS[2], ARGV[2])
return 'done'
