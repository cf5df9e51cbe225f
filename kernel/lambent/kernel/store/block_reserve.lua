-- Sets what one function has of its own, outside of the pool.
--
-- KEYS[1] lambent:{s0}:blocks    see block_change.lua
-- KEYS[2] lambent:{s0}:reserved  hash: function uid -> slots
-- ARGV    uid, slots or '' for none, schema

local before = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
redis.call('HSETNX', KEYS[1], 'v', ARGV[3])
return redis.call('HINCRBY', KEYS[1], 'reserved', (tonumber(ARGV[2]) or 0) - before)
