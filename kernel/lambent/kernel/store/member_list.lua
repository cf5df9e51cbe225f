-- Lists members, and drops those that have been silent for too long.
--
-- KEYS    per role: lambent:{s0}:members:<role>, lambent:{s0}:seen:<role>; see member_register.lua
-- ARGV    ms of silence after which a member is dropped
-- Answers per member: its JSON, ms since its last registration.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {}
for k = 1, #KEYS, 2 do
  local seen = redis.call('ZRANGE', KEYS[k + 1], 0, -1, 'WITHSCORES')
  for i = 1, #seen, 2 do
    local age = math.max(0, now - tonumber(seen[i + 1]))
    if age > tonumber(ARGV[1]) then
      redis.call('HDEL', KEYS[k], seen[i])
      redis.call('ZREM', KEYS[k + 1], seen[i])
    else
      answer[#answer + 1] = redis.call('HGET', KEYS[k], seen[i])
      answer[#answer + 1] = age
    end
  end
end
return answer
