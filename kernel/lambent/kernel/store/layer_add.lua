-- Stores a layer version under the next number of its name. Numbers are never used again, not even after all
-- versions are deleted: the hash stays, with its counter.
--
-- KEYS[1] lambent:{s<N>}:layer:<name>  hash: next (the last number given), token (of the last call),
--                                      v:<number> (JSON) and b:<number> (its archive's bytes) for each version
-- KEYS[2] lambent:{s<N>}:layers        set: names of the shard's layers that have a version
-- KEYS[3] lambent:{s<N>}:bytes         see function_create.lua
-- ARGV    name, this call's token, bytes, JSON
-- Answers the number. Repeating a call (the same token) answers its number and stores nothing.

if redis.call('HGET', KEYS[1], 'token') == ARGV[2] then
  return tonumber(redis.call('HGET', KEYS[1], 'next'))
end
local number = redis.call('HINCRBY', KEYS[1], 'next', 1)
redis.call('HSET', KEYS[1], 'token', ARGV[2], 'v:' .. number, ARGV[4], 'b:' .. number, ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('INCRBY', KEYS[3], ARGV[3])
return number
