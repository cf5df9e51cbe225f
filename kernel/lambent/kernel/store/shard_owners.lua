-- Lists the shards that are held.
--
-- KEYS[1] lambent:{s0}:owners  see shard_claim.lua
-- Answers the schema, then per shard: its number, owner, address, epoch.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stored = redis.call('HGETALL', KEYS[1])
local fields = {}
for i = 1, #stored, 2 do
  fields[stored[i]] = stored[i + 1]
end
local answer = {fields['v'] or '1'}
for name, owner in pairs(fields) do
  local n = string.match(name, '^o:(%d+)$')
  if n and tonumber(fields['u:' .. n]) > now then
    for _, value in ipairs({n, owner, fields['a:' .. n], fields['e:' .. n]}) do
      answer[#answer + 1] = value
    end
  end
end
return answer
