-- Changes a shard's block of the account's unreserved slots: adds what the pool has, or lowers it.
--
-- KEYS[1] lambent:{s0}:blocks  hash: v (schema), limit (the account's slots), reserved (their sum), blocks (their
--                              sum), and per shard N: b:N its block, g:N the last grow's token and what it added
-- KEYS[2] lambent:{s0}:wants   sorted set: shard, by the ms since the epoch until which others hear that it got less
--                              than it asked for
-- KEYS[3] lambent:{s0}:owners  see shard_claim.lua
-- ARGV    shard, epoch, 'grow' or 'to', how many, this call's token, ms that a want is told, schema
-- Answers the block's size, what was added, what the pool has left, whether the epoch is not the shard's (1; nothing
-- is changed then), whether another shard wants more (1). Repeating a grow (the same token) adds nothing. Or only the
-- schema, if it is a newer one, and has changed nothing.

local v = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
if v > tonumber(ARGV[7]) then
  return {v}
end
local n, count = ARGV[1], tonumber(ARGV[4])
local stored = redis.call('HMGET', KEYS[1], 'limit', 'reserved', 'blocks', 'b:' .. n, 'g:' .. n)
local sum, size = tonumber(stored[3] or '0'), tonumber(stored[4] or '0')
local free = tonumber(stored[1] or '0') - tonumber(stored[2] or '0') - sum
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local fenced = redis.call('HGET', KEYS[3], 'e:' .. n) ~= ARGV[2]
local change, added = 0, 0
if not fenced then
  if ARGV[3] == 'to' then
    change = math.min(0, count - size)
  else
    local token, before = string.match(stored[5] or '', '^(%S+) (%d+)$')
    if token == ARGV[5] then
      added = tonumber(before)
    else
      added = math.max(0, math.min(count, free))
      change = added
      if count > 0 then
        redis.call('HSET', KEYS[1], 'g:' .. n, ARGV[5] .. ' ' .. added)
      end
    end
    if added < count then
      redis.call('ZADD', KEYS[2], now + ARGV[6], n)
    elseif count > 0 then
      redis.call('ZREM', KEYS[2], n)
    end
  end
  if change ~= 0 then
    redis.call('HSETNX', KEYS[1], 'v', ARGV[7])
    redis.call('HSET', KEYS[1], 'b:' .. n, size + change)
    redis.call('HINCRBY', KEYS[1], 'blocks', change)
  end
end
local others = redis.call('ZCARD', KEYS[2])
if redis.call('ZSCORE', KEYS[2], n) then
  others = others - 1
end
return {size + change, added, free - change, fenced and 1 or 0, others > 0 and 1 or 0}
