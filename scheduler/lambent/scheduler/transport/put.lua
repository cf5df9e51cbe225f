-- Puts messages on a queue, makes the queue known and readers awake: one step, so that no message can exist
-- whose queue is in no index.
-- KEYS: 1 stream  2 delayed zset  3 delayed bodies  4 index  5 due  6 notify       (schema: keys.py)
-- ARGV: 1 queue  2 group  3 cap of notify  4 most messages the queue may hold then (0: any), then per message:
--       body, meta, delay ms (0: ready now), first put ms or ""
-- Returns the number of messages; the error FULL, with nothing put, when they are too many.
local queue, most = ARGV[1], tonumber(ARGV[4])
local count = (#ARGV - 4) / 4
if most > 0 then
  local there = redis.call('XLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])
  if there + count > most then
    return redis.error_reply('FULL ' .. there .. ' messages wait already, and ' .. most .. ' may')
  end
end
local ready, soonest = false, nil
for i = 5, #ARGV, 4 do
  local delay = tonumber(ARGV[i + 2])
  add(0, queue, ARGV[2], ARGV[i], ARGV[i + 1], delay, ARGV[i + 3], redis.call('ZCARD', KEYS[2]) .. '-' .. i)
  if delay <= 0 then
    ready = true
  elseif not soonest or delay < soonest then
    soonest = delay
  end
end
if ready then hint(0, ARGV[3], queue, 0) end
if soonest then hint(0, ARGV[3], queue, soonest) end
return count
