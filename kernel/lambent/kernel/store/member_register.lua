-- Tells that a process is there.
--
-- KEYS[1] lambent:{s0}:members:<role>  hash: member id -> JSON
-- KEYS[2] lambent:{s0}:seen:<role>     sorted set: member id, by the ms since the epoch of its last registration
-- ARGV    id, JSON, the most members of a role
-- Answers 1, or 0 if there is no room for another one.

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  return 0
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
return 1
