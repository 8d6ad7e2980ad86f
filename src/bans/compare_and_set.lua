-- Sets a text if it is still the same. KEYS[1]: its key. ARGV[1]: the text that is expected, empty if
-- there is none. ARGV[2]: the new one. ARGV[3]: how long it lives, in milliseconds.
-- Returns 1 if it was set, 0 if the text is another one, -1 if Redis has no memory for it.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
    return 0
end
local set = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return set.err and -1 or 1
