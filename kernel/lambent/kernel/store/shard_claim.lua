-- Takes a shard that nobody holds.
--
-- KEYS[1] lambent:{s0}:owners  hash: v (schema) and per shard N: e:N its last epoch, which stays; and while it is
--                              held, or was until lately: o:N owner, a:N its address, u:N ms since the epoch until
--                              which it is held, t:N the claiming call's token
-- ARGV    shard, owner, address, ms to hold it, this call's token, schema
-- Answers the epoch, or nothing if the shard is held. Repeating a call (the same token) answers its epoch.
--
-- An epoch is at least the ms since the epoch: where a failover has lost the last claims, a new owner's epoch is
-- still greater than all that an executor has heard.

local n = ARGV[1]
local stored = redis.call('HMGET', KEYS[1], 'e:' .. n, 'o:' .. n, 'u:' .. n, 't:' .. n)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if stored[2] and tonumber(stored[3]) > now then
  return stored[4] == ARGV[5] and stored[1] or false
end
local epoch = string.format('%.0f', math.max(tonumber(stored[1] or '0') + 1, now))
local goes = string.format('%.0f', now + ARGV[4])
redis.call('HSETNX', KEYS[1], 'v', ARGV[6])
redis.call('HSET', KEYS[1], 'e:' .. n, epoch, 'o:' .. n, ARGV[2], 'a:' .. n, ARGV[3], 'u:' .. n, goes, 't:' .. n, ARGV[5])
return epoch
