-- Shared by all scripts of discovery; precedes each of them.
-- KEYS[1]: the prefix of all keys; its hash tag puts them into one slot of a cluster.
-- KEYS[2]: the channel on which changes are published.
-- A place is an origin's length, the origin and a topic, with colons between.

-- When each session expires; where it is listed; how many bytes it takes.
local ends, places, sizes = KEYS[1] .. 'ends', KEYS[1] .. 'places', KEYS[1] .. 'sizes'
-- 'bytes': the bytes of all sessions. 'made': the number of the last session.
local totals = KEYS[1] .. 'totals'

local function session_key(code)
  return KEYS[1] .. 'session:' .. code
end

-- Returns the origin of a place, with its length before it, and the topic.
local function parts(place)
  local colon = string.find(place, ':', 1, true)
  local length = colon + tonumber(string.sub(place, 1, colon - 1))
  return string.sub(place, 1, length), string.sub(place, length + 2)
end

-- Keeps a key for at least `ttl` milliseconds.
local function keep(key, ttl)
  if redis.call('PTTL', key) < tonumber(ttl) then
    redis.call('PEXPIRE', key, ttl)
  end
end

-- Returns the place of a session if it belongs to the origin and has not expired.
local function find(code, origin, now)
  local found = redis.call('HMGET', session_key(code), 'place', 'expires')
  if found[1] and parts(found[1]) == origin and tonumber(found[2]) > tonumber(now) then
    return found[1]
  end
end

-- Reserves the bytes of an addition to a session, and releases those of what it replaces; returns
-- why it cannot, if so.
local function resize(code, more, less, most_of_session, most)
  local size = tonumber(redis.call('HGET', sizes, code) or 0) + more - less
  if size > tonumber(most_of_session) then
    return 'session_too_large'
  end
  if tonumber(redis.call('HGET', totals, 'bytes') or 0) + more > tonumber(most) then
    return 'too_many_bytes'
  end
  redis.call('HSET', sizes, code, size)
  redis.call('HINCRBY', totals, 'bytes', more - less)
  -- Changes nothing, unless somebody has deleted these keys.
  local ttl = redis.call('PTTL', session_key(code))
  keep(sizes, ttl)
  keep(totals, ttl)
end

-- Removes a session from its lists.
local function unlist(code, place)
  local origin, topic = parts(place)
  redis.call('ZREM', KEYS[1] .. 'listed:' .. place, code)
  redis.call('ZREM', KEYS[1] .. 'ends:' .. place, code)
  if redis.call('EXISTS', KEYS[1] .. 'listed:' .. place) == 0 then
    redis.call('ZREM', KEYS[1] .. 'topics:' .. origin, topic)
  end
end

-- Removes a session, whether or not Redis has expired its key, and releases its bytes.
local function remove(code)
  local place = redis.call('HGET', places, code)
  local size = redis.call('HGET', sizes, code)
  redis.call('DEL', session_key(code))
  redis.call('ZREM', ends, code)
  if place then
    redis.call('ZREM', KEYS[1] .. 'origin:' .. parts(place), code)
    unlist(code, place)
    redis.call('HDEL', places, code)
  end
  if size then
    redis.call('HDEL', sizes, code)
    redis.call('HINCRBY', totals, 'bytes', '-' .. size)
  end
  if redis.call('EXISTS', ends) == 0 then
    -- Nothing remains, whatever the numbers say.
    redis.call('DEL', places, sizes, totals)
  end
end

-- Removes up to `limit` expired sessions, oldest first; returns how many.
local function clean_up(now, limit)
  local expired = redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, limit)
  for _, code in ipairs(expired) do
    remove(code)
  end
  return #expired
end

