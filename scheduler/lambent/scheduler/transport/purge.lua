-- Empties a queue for good, on somebody's order. With ARGV[3] = "ready" only what no consumer has (AMQP's purge);
-- with "all" everything and the queue itself.
-- KEYS: 1 stream  2 delayed zset  3 delayed bodies  4 index  5 due  6 notify       (schema: keys.py)
-- ARGV: 1 queue  2 group  3 "ready" or "all"
-- Returns how many messages went.
local gone = redis.call('ZCARD', KEYS[2])
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[5], ARGV[1])
if ARGV[3] == 'all' then
  gone = gone + redis.call('XLEN', KEYS[1])
  redis.call('DEL', KEYS[1])
else
  local after = '0-0'
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
  if not groups.err then
    for _, row in ipairs(groups) do
      local facts = {}
      for i = 1, #row, 2 do facts[row[i]] = row[i + 1] end
      if facts.name == ARGV[2] then after = facts['last-delivered-id'] end
    end
  end
  while true do
    local ready = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', 500)
    for _, entry in ipairs(ready) do gone = gone + redis.call('XDEL', KEYS[1], entry[1]) end
    if #ready < 500 then break end
  end
end
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('SREM', KEYS[4], ARGV[1]) end
return gone
