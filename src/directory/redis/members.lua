-- Changes the list of replicas. KEYS[1]: the list, its IDs separated by commas. ARGV[1]: the ID.
-- ARGV[2]: join or leave. ARGV[3]: how long the list lives, in milliseconds, if the replica joins.
-- A Redis without memory refuses to write: then the list stays as it is until the next time.
local others, is_member = {}, false
for id in string.gmatch(redis.call('GET', KEYS[1]) or '', '[^,]+') do
    if id == ARGV[1] then
        is_member = true
    else
        table.insert(others, id)
    end
end
if ARGV[2] == 'join' and is_member then
    redis.pcall('PEXPIRE', KEYS[1], ARGV[3])
elseif ARGV[2] == 'join' then
    table.insert(others, ARGV[1])
    redis.pcall('SET', KEYS[1], table.concat(others, ','), 'PX', ARGV[3])
elseif is_member and #others == 0 then
    redis.pcall('DEL', KEYS[1])
elseif is_member then
    redis.pcall('SET', KEYS[1], table.concat(others, ','), 'KEEPTTL')
end
return #others
