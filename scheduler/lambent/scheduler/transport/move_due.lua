-- Moves a queue's due messages into its stream, at most ARGV[4] of them, and notes when the next one is due.
-- KEYS: 1 stream  2 delayed zset  3 delayed bodies  4 index  5 due  6 notify       (schema: keys.py)
-- ARGV: 1 queue  2 group  3 cap of notify  4 limit
-- Returns how many were moved.
local now = now_ms()
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[4])
for _, id in ipairs(ids) do
  local packed = redis.call('HGET', KEYS[3], id)
  -- Taken out first: a server that is out of memory refuses a script that would begin by adding.
  redis.call('ZREM', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
  if packed then
    local message = cmsgpack.unpack(packed)
    redis.call('XADD', KEYS[1], '*', 'b', message[1], 'm', message[2], 't', message[3])
  end
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if #first == 0 then
  redis.call('ZREM', KEYS[5], ARGV[1])
else
  redis.call('ZADD', KEYS[5], first[2], ARGV[1])
end
if #ids > 0 then hint(0, ARGV[3], ARGV[1], 0) end
return #ids
