-- Holds shards for longer, those that are still the owner's.
--
-- KEYS[1] lambent:{s0}:owners  see shard_claim.lua
-- ARGV    owner, ms to hold them from now, then shard, epoch, ...
-- Answers the shards that are held. One whose time was over is not, even if nobody else has it yet: its owner may
-- have stopped to believe in it.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local goes = string.format('%.0f', now + ARGV[2])
local held = {}
for i = 3, #ARGV, 2 do
  local n = ARGV[i]
  local stored = redis.call('HMGET', KEYS[1], 'o:' .. n, 'e:' .. n, 'u:' .. n)
  if stored[1] == ARGV[1] and stored[2] == ARGV[i + 1] and tonumber(stored[3]) > now then
    redis.call('HSET', KEYS[1], 'u:' .. n, goes)
    held[#held + 1] = n
  end
end
return held
