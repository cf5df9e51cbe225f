-- Removes a published version with its event-invoke configuration, unless an alias names it.
--
-- KEYS[1] lambent:{s<N>}:fn:<name>        see function_create.lua
-- KEYS[2] lambent:{s<N>}:versions:<name>  see function_create.lua
-- KEYS[3] lambent:{s<N>}:bytes            see function_create.lua
-- ARGV    uid, number, message for the channel lambent:changes
-- Answers the names of the aliases that name it, and has changed nothing; none: it is gone, or was.

if redis.call('HGET', KEYS[1], 'uid') ~= ARGV[1] then
  return {}
end
local naming = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 6) == 'alias:' then
    local alias = cjson.decode(all[i + 1])
    if alias.function_version == ARGV[2] or alias.weights[ARGV[2]] then
      naming[#naming + 1] = string.sub(all[i], 7)
    end
  end
end
if #naming > 0 then
  return naming
end
local stored = redis.call('HGET', KEYS[2], ARGV[2])
if stored then
  local bytes = cjson.decode(stored).archive.size
  redis.call('HDEL', KEYS[2], ARGV[2])
  redis.call('HDEL', KEYS[1], 'invoke:' .. ARGV[2], 'provisioned:' .. ARGV[2])
  redis.call('HINCRBY', KEYS[1], 'version_bytes', -bytes)
  redis.call('DECRBY', KEYS[3], bytes)
  redis.call('PUBLISH', 'lambent:changes', ARGV[3])
end
return {}
