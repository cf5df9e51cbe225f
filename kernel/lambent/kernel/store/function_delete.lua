-- Removes a function, if it is still the one of that uid, with its versions and indexes.
--
-- KEYS[1] lambent:{s<N>}:fn:<name>        see function_create.lua
-- KEYS[2] lambent:{s<N>}:functions        see function_create.lua
-- KEYS[3] lambent:{s<N>}:bytes            see function_create.lua
-- KEYS[4] lambent:{s<N>}:versions:<name>  see function_create.lua
-- ARGV    name, uid, message for the channel lambent:changes
-- Answers the removed hash as field, value, ...; nothing if it is gone or another function has its name.

if redis.call('HGET', KEYS[1], 'uid') ~= ARGV[2] then
  return {}
end
local removed = redis.call('HGETALL', KEYS[1])
local bytes = redis.call('HMGET', KEYS[1], 'bytes', 'version_bytes')
redis.call('DEL', KEYS[1], KEYS[4])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DECRBY', KEYS[3], bytes[1] + (bytes[2] or 0))
redis.call('PUBLISH', 'lambent:changes', ARGV[3])
return removed
