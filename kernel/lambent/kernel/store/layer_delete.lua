-- Removes a layer version; its name's counter stays.
--
-- KEYS[1] lambent:{s<N>}:layer:<name>  see layer_add.lua
-- KEYS[2] lambent:{s<N>}:layers        see layer_add.lua
-- KEYS[3] lambent:{s<N>}:bytes         see function_create.lua
-- ARGV    name, number
-- Answers the removed JSON, or nothing.

local removed = redis.call('HMGET', KEYS[1], 'v:' .. ARGV[2], 'b:' .. ARGV[2])
if not removed[1] then
  return false
end
redis.call('HDEL', KEYS[1], 'v:' .. ARGV[2], 'b:' .. ARGV[2])
redis.call('DECRBY', KEYS[3], removed[2])
if redis.call('HLEN', KEYS[1]) == 2 then
  redis.call('SREM', KEYS[2], ARGV[1])
end
return removed[1]
