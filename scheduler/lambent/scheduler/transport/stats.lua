-- A queue's numbers.
-- KEYS: 1 stream  2 delayed zset  3 delayed bodies                                  (schema: keys.py)
-- ARGV: 1 group
-- Returns {entries in the stream, of these delivered and not ended, delayed, ms since the oldest was first put or -1}.
local now = now_ms()
local length = redis.call('XLEN', KEYS[1])
local pending = 0
local groups = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if not groups.err then pending = groups[1] end
local oldest = nil
local entry = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if entry then
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 't' then oldest = tonumber(entry[2][i + 1]) end
  end
end
local soonest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
if soonest then
  local packed = redis.call('HGET', KEYS[3], soonest)
  if packed then
    local first = tonumber(cmsgpack.unpack(packed)[3])
    if not oldest or first < oldest then oldest = first end
  end
end
return {length, pending, redis.call('ZCARD', KEYS[2]), oldest and math.max(0, now - oldest) or -1}
