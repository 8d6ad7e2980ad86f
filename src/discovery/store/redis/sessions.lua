-- The sessions of a place that have no answer yet, the newest first.
-- ARGV[1]: the place. ARGV[2]: the time now. ARGV[3]: the most sessions. ARGV[4]: the most bytes.
-- Returns a list of codes, each followed by the list of its session's fields and their values.
local listed, now, left = KEYS[1] .. 'listed:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local sessions, bytes, first = {}, 0, 0
repeat
  -- Some of them may be over.
  local codes = redis.call('ZREVRANGE', listed, first, first + left - 1)
  first = first + #codes
  local is_last = #codes < left
  for _, code in ipairs(codes) do
    local expires = redis.call('HGET', session_key(code), 'expires')
    if expires and tonumber(expires) > now then
      bytes = bytes + tonumber(redis.call('HGET', sizes, code) or 0)
      if bytes > tonumber(ARGV[4]) then
        return sessions
      end
      sessions[#sessions + 1] = code
      sessions[#sessions + 1] = redis.call('HGETALL', session_key(code))
      left = left - 1
    end
  end
until is_last or left == 0
return sessions
