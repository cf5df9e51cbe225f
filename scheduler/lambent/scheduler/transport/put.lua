-- Puts messages on a queue, makes the queue known and readers awake: one step, so that no message can exist
-- whose queue is in no index.
-- KEYS: 1 stream  2 delayed zset  3 delayed bodies  4 index  5 due  6 notify       (schema: keys.py)
-- ARGV: 1 queue  2 group  3 cap of notify, then per message: body, meta, delay ms (0: ready now), first put ms or ""
-- Returns the number of messages.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local queue = ARGV[1]
if redis.call('SADD', KEYS[4], queue) == 1 then
  -- BUSYGROUP: the queue was here before and had run empty.
  redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[2], '0', 'MKSTREAM')
end
local ready, soonest = 0, nil
for i = 4, #ARGV, 4 do
  local delay = tonumber(ARGV[i + 2])
  local first = ARGV[i + 3]
  if first == '' then first = string.format('%d', now) end
  if delay <= 0 then
    redis.call('XADD', KEYS[1], '*', 'b', ARGV[i], 'm', ARGV[i + 1], 't', first)
    ready = ready + 1
  else
    local id = string.format('%d-%d-%d-%d', time[1], time[2], redis.call('ZCARD', KEYS[2]), i)
    redis.call('ZADD', KEYS[2], now + delay, id)
    redis.call('HSET', KEYS[3], id, cmsgpack.pack({ARGV[i], ARGV[i + 1], first}))
    redis.call('ZADD', KEYS[5], 'LT', now + delay, queue)
    if not soonest or delay < soonest then soonest = delay end
  end
end
if ready > 0 then redis.call('XADD', KEYS[6], 'MAXLEN', ARGV[3], '*', 'q', queue) end
if soonest then redis.call('XADD', KEYS[6], 'MAXLEN', ARGV[3], '*', 'd', soonest) end
return (#ARGV - 3) / 4
