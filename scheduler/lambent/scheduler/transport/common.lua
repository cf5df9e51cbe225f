-- Put before every other script of this folder: what several of them do.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000), string.format('%d-%d', time[1], time[2])
end

-- Adds a message to a queue whose keys are KEYS[first + 1] and following (schema: keys.py): now, or in `delay` ms.
-- `put`: ms of its first put, or ''; `unique`: what makes its id one. The hint that tells readers is the caller's.
local function add(first, queue, group, body, meta, delay, put, unique)
  local now, stamp = now_ms()
  if put == '' then put = string.format('%d', now) end
  if redis.call('SADD', KEYS[first + 4], queue) == 1 then
    -- BUSYGROUP: the queue was here before and had run empty.
    redis.pcall('XGROUP', 'CREATE', KEYS[first + 1], group, '0', 'MKSTREAM')
  end
  if delay <= 0 then
    redis.call('XADD', KEYS[first + 1], '*', 'b', body, 'm', meta, 't', put)
    return
  end
  local id = stamp .. '-' .. unique
  redis.call('ZADD', KEYS[first + 2], now + delay, id)
  redis.call('HSET', KEYS[first + 3], id, cmsgpack.pack({body, meta, put}))
  redis.call('ZADD', KEYS[first + 5], 'LT', now + delay, queue)
end

-- Tells readers that a queue has got a message, or that one is due in `delay` ms.
local function hint(first, cap, queue, delay)
  if delay <= 0 then
    redis.call('XADD', KEYS[first + 6], 'MAXLEN', cap, '*', 'q', queue)
  else
    redis.call('XADD', KEYS[first + 6], 'MAXLEN', cap, '*', 'd', delay)
  end
end

-- Takes a queue that has run empty out of the index.
local function leave_if_empty(first, queue)
  if redis.call('XLEN', KEYS[first + 1]) == 0 and redis.call('ZCARD', KEYS[first + 2]) == 0 then
    redis.call('SREM', KEYS[first + 4], queue)
  end
end
