-- Lists the sessions of a place that have no answer yet, newest first.
-- ARGV[1]: the place. ARGV[2]: the time now. ARGV[3]: the most sessions. ARGV[4]: the most bytes.
-- Returns a list of codes, each followed by a list about its session: the info, the offer, when it
-- was created, when it expires, and the offerer's candidates in their order.
local listed, now, left = KEYS[1] .. 'listed:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local sessions, bytes, first = {}, 0, 0

local function add_candidates(session, key, count)
  local names = {}
  -- The two sides are numbered together.
  for number = 1, count do
    names[number] = 'offerer:' .. number
  end
  for _, candidate in ipairs(redis.call('HMGET', key, unpack(names))) do
    if candidate then
      session[#session + 1] = candidate
    end
  end
end

repeat
  -- Some of them may have expired.
  local codes = redis.call('ZREVRANGE', listed, first, first + left - 1)
  first = first + #codes
  local is_last = #codes < left
  local of_codes = #codes > 0 and redis.call('HMGET', sizes, unpack(codes))
  for place, code in ipairs(codes) do
    local key = session_key(code)
    -- In one call, as each has its cost.
    local session = redis.call('HMGET', key, 'info', 'offer', 'created', 'expires', 'candidates')
    if session[4] and tonumber(session[4]) > now then
      bytes = bytes + tonumber(of_codes[place] or 0)
      if bytes > tonumber(ARGV[4]) then
        return sessions
      end
      local candidates = tonumber(session[5] or 0)
      session[5] = nil
      if candidates > 0 then
        add_candidates(session, key, candidates)
      end
      sessions[#sessions + 1] = code
      sessions[#sessions + 1] = session
      left = left - 1
    end
  end
until is_last or left == 0
return sessions
