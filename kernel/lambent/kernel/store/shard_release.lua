-- Frees a shard, if it is still the owner's at that epoch; the epoch stays.
--
-- KEYS[1] lambent:{s0}:owners  see shard_claim.lua
-- ARGV    shard, owner, epoch
-- Answers 1, or 0 if it is not.

local n = ARGV[1]
local stored = redis.call('HMGET', KEYS[1], 'o:' .. n, 'e:' .. n)
if stored[1] ~= ARGV[2] or stored[2] ~= ARGV[3] then
  return 0
end
redis.call('HDEL', KEYS[1], 'o:' .. n, 'a:' .. n, 'u:' .. n, 't:' .. n)
return 1
