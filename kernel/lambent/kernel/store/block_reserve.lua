-- Sets what one function has of its own, outside of the pool.
--
-- KEYS[1] lambent:{s0}:blocks    see block_change.lua
-- KEYS[2] lambent:{s0}:reserved  hash: function uid -> slots
-- ARGV    uid, slots or '' for none, schema
-- Answers the schema, and has changed nothing if it is a newer one.

local v = tonumber(redis.call('HGET', KEYS[1], 'v') or ARGV[3])
if v > tonumber(ARGV[3]) then
  return v
end
local before = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
redis.call('HSETNX', KEYS[1], 'v', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'reserved', (tonumber(ARGV[2]) or 0) - before)
return v
