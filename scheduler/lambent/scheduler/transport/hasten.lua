-- Makes delayed messages due now.
-- KEYS: 1 stream  2 delayed zset  3 delayed bodies  4 index  5 due  6 notify       (schema: keys.py)
-- ARGV: 1 queue  2 cap of notify, then their ids
-- Returns how many were still delayed.
local now = now_ms()
local found = 0
for i = 3, #ARGV do
  if redis.call('ZSCORE', KEYS[2], ARGV[i]) then
    redis.call('ZADD', KEYS[2], now, ARGV[i])
    found = found + 1
  end
end
if found > 0 then
  redis.call('ZADD', KEYS[5], 'LT', now, ARGV[1])
  hint(0, ARGV[2], ARGV[1], 1)
end
return found
