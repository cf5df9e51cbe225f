-- Ends messages: acknowledged and deleted in one step, the only way in which an entry leaves a stream.
-- KEYS: 1 stream  2 delayed zset  3 delayed bodies  4 index  5 due  6 notify       (schema: keys.py)
-- ARGV: 1 queue  2 group, then stream ids
-- Returns how many were there.
local gone = 0
for i = 3, #ARGV do
  redis.call('XACK', KEYS[1], ARGV[2], ARGV[i])
  gone = gone + redis.call('XDEL', KEYS[1], ARGV[i])
end
if redis.call('XLEN', KEYS[1]) == 0 and redis.call('ZCARD', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[4], ARGV[1])
end
return gone
