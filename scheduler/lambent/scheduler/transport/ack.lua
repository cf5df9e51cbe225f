-- Ends messages: acknowledged and deleted in one step, the only way in which an entry leaves a stream.
-- KEYS: 1 stream  2 delayed zset  3 delayed bodies  4 index  5 due  6 notify       (schema: keys.py)
-- ARGV: 1 queue  2 group, then stream ids
-- Returns how many were there.
local gone = 0
for i = 3, #ARGV do
  redis.call('XACK', KEYS[1], ARGV[2], ARGV[i])
  gone = gone + redis.call('XDEL', KEYS[1], ARGV[i])
end
leave_if_empty(0, ARGV[1])
return gone
