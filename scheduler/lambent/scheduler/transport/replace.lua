-- Puts a message in the place of a delivered one, now or after a delay, in one step: there is no moment at which
-- neither or both are there. Does nothing when the delivered one is gone (another consumer ended it).
-- KEYS: 1 stream  2 delayed zset  3 delayed bodies  4 index  5 due  6 notify       (schema: keys.py)
-- ARGV: 1 queue  2 group  3 cap of notify  4 stream id of the delivered one  5 body  6 meta  7 delay ms  8 first put ms
-- Returns 1, or 0 when the delivered one was gone.
if redis.call('XDEL', KEYS[1], ARGV[4]) == 0 then return 0 end
redis.call('XACK', KEYS[1], ARGV[2], ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local delay = tonumber(ARGV[7])
if delay <= 0 then
  redis.call('XADD', KEYS[1], '*', 'b', ARGV[5], 'm', ARGV[6], 't', ARGV[8])
  redis.call('XADD', KEYS[6], 'MAXLEN', ARGV[3], '*', 'q', ARGV[1])
else
  local id = string.format('%d-%d-%s', time[1], time[2], ARGV[4])
  redis.call('ZADD', KEYS[2], now + delay, id)
  redis.call('HSET', KEYS[3], id, cmsgpack.pack({ARGV[5], ARGV[6], ARGV[8]}))
  redis.call('ZADD', KEYS[5], 'LT', now + delay, ARGV[1])
  redis.call('XADD', KEYS[6], 'MAXLEN', ARGV[3], '*', 'd', delay)
end
return 1
