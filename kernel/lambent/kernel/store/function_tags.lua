-- Removes and adds tags, if no more than the allowed number are there then.
--
-- KEYS[1] lambent:{s<N>}:fn:<name>    see function_create.lua; tags are its fields tag:<key>
-- ARGV    most tags, message for the channel lambent:changes, how many keys to remove, those keys,
--         then key, value, ... to add
-- Answers all tags as 'ok', key, value, ...; or 'gone'; or 'many', and has changed nothing.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'gone'}
end
local tags = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 4) == 'tag:' then
    tags[string.sub(all[i], 5)] = all[i + 1]
  end
end
local removals = tonumber(ARGV[3])
for i = 4, 3 + removals do
  tags[ARGV[i]] = nil
end
for i = 4 + removals, #ARGV, 2 do
  tags[ARGV[i]] = ARGV[i + 1]
end
local answer = {'ok'}
for key, value in pairs(tags) do
  answer[#answer + 1] = key
  answer[#answer + 1] = value
end
if (#answer - 1) / 2 > tonumber(ARGV[1]) then
  return {'many'}
end
for i = 4, 3 + removals do
  redis.call('HDEL', KEYS[1], 'tag:' .. ARGV[i])
end
for i = 4 + removals, #ARGV, 2 do
  redis.call('HSET', KEYS[1], 'tag:' .. ARGV[i], ARGV[i + 1])
end
redis.call('PUBLISH', 'lambent:changes', ARGV[2])
return answer
