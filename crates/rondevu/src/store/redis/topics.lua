-- Lists a page of the topics that have a session without an answer, ordered by their bytes.
-- ARGV[1]: the origin, with its length. ARGV[2]: the time now. ARGV[3]: the number of topics on
-- the pages before. ARGV[4]: the most on this one.
-- Returns how many there are on all pages, and a list of topics, each followed by its sessions'
-- number.
local before, page, total = tonumber(ARGV[3]), {}, 0
for _, topic in ipairs(redis.call('ZRANGE', KEYS[1] .. 'topics:' .. ARGV[1], 0, -1)) do
  local listed_ends = KEYS[1] .. 'ends:' .. ARGV[1] .. ':' .. topic
  local count = redis.call('ZCOUNT', listed_ends, '(' .. ARGV[2], '+inf')
  if count > 0 then
    total = total + 1
    if total > before and total <= before + tonumber(ARGV[4]) then
      page[#page + 1] = topic
      page[#page + 1] = count
    end
  end
end
return { total, page }
