-- Stores a new session and publishes that.
-- ARGV[1]: the command that publishes. ARGV[2]: the message. ARGV[3]: the code. ARGV[4]: the place.
-- ARGV[5]: the info. ARGV[6]: the offer. ARGV[7]: its bytes. ARGV[8]: the time now.
-- ARGV[9]: when it expires. ARGV[10]: the TTL of its keys in milliseconds.
-- ARGV[11]: the most sessions. ARGV[12]: the most of an origin. ARGV[13]: the most bytes of all.
-- ARGV[14]: the most sessions that are removed to release bytes. ARGV[15]: the hash of its secret, or
-- nothing.
-- Returns 'done', or why not: 'code_taken', 'too_many_sessions', 'too_many_bytes', 'too_many_of_origin'.
local code, place, bytes, ttl = ARGV[3], ARGV[4], tonumber(ARGV[7]), ARGV[10]
local origin, topic = parts(place)
local session, of_origin = session_key(code), KEYS[1] .. 'origin:' .. origin
local topics = KEYS[1] .. 'topics:' .. origin
local listed, listed_ends = KEYS[1] .. 'listed:' .. place, KEYS[1] .. 'ends:' .. place

if redis.call('EXISTS', session) == 1 then
  local found = redis.call('HMGET', session, 'place', 'info', 'offer', 'created', 'expires', 'secret')
  if found[1] == place and found[2] == ARGV[5] and found[3] == ARGV[6] and found[4] == ARGV[8]
    and (found[6] or '') == ARGV[15] then
    -- The reply was lost, and the library has sent the command again.
    return 'done'
  end
  if tonumber(found[5]) <= tonumber(ARGV[8]) then
    clean_up(ARGV[8], ARGV[14])
  end
  if redis.call('EXISTS', session) == 1 then
    return 'code_taken'
  end
end
local function has_room()
  return tonumber(redis.call('HGET', totals, 'bytes') or 0) + bytes <= tonumber(ARGV[13])
end
if redis.call('ZCOUNT', ends, '(' .. ARGV[8], '+inf') >= tonumber(ARGV[11]) then
  return 'too_many_sessions'
end
if not has_room() then
  clean_up(ARGV[8], ARGV[14])
  if not has_room() then
    return 'too_many_bytes'
  end
end
if redis.call('ZCOUNT', of_origin, '(' .. ARGV[8], '+inf') >= tonumber(ARGV[12]) then
  return 'too_many_of_origin'
end

redis.call('HSET', session, 'place', place, 'info', ARGV[5], 'offer', ARGV[6], 'created', ARGV[8],
  'expires', ARGV[9], 'answers', 0, 'candidates', 0)
if ARGV[15] ~= '' then
  redis.call('HSET', session, 'secret', ARGV[15])
end
redis.call('ZADD', ends, ARGV[9], code)
redis.call('HSET', places, code, place)
redis.call('HSET', sizes, code, bytes)
redis.call('HINCRBY', totals, 'bytes', bytes)
redis.call('ZADD', of_origin, ARGV[9], code)
redis.call('ZADD', topics, 0, topic)
-- By this number, not by the time, which sessions may share and on which replicas may not agree.
redis.call('ZADD', listed, redis.call('HINCRBY', totals, 'made', 1), code)
redis.call('ZADD', listed_ends, ARGV[9], code)
local keys = { session, ends, places, sizes, totals, of_origin, topics, listed, listed_ends }
for _, key in ipairs(keys) do
  keep(key, ttl)
end
redis.call(ARGV[1], KEYS[2], ARGV[2])
return 'done'
