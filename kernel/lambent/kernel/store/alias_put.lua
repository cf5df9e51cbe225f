-- Writes an alias, if its stored revision is the expected one, and the versions that it names exist.
--
-- KEYS[1] lambent:{s<N>}:fn:<name>        see function_create.lua
-- KEYS[2] lambent:{s<N>}:versions:<name>  see function_create.lua
-- ARGV    uid, the alias's name, its JSON, message for the channel lambent:changes, the expected revision or ''
--         for a new one, then the numbers of the versions
-- Answers '1', or '0' if the alias is another one by now, 'gone' if the function is, or 'no <number>' for a version
-- that is not there. Repeating a step that was done answers '1': each JSON has a revision of its own.

if redis.call('HGET', KEYS[1], 'uid') ~= ARGV[1] then
  return 'gone'
end
local stored = redis.call('HGET', KEYS[1], 'alias:' .. ARGV[2])
if stored == ARGV[3] then
  return '1'
end
if (stored and cjson.decode(stored).revision_id or '') ~= ARGV[5] then
  return '0'
end
for i = 6, #ARGV do
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then
    return 'no ' .. ARGV[i]
  end
end
if not stored then
  -- What was set for an alias of this name in the moment of its deletion is not the new one's.
  redis.call('HDEL', KEYS[1], 'invoke:' .. ARGV[2], 'provisioned:' .. ARGV[2], 'url:' .. ARGV[2])
end
redis.call('HSET', KEYS[1], 'alias:' .. ARGV[2], ARGV[3])
redis.call('PUBLISH', 'lambent:changes', ARGV[4])
return '1'
