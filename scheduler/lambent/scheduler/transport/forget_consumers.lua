-- Deletes consumers that are gone, but only with nothing pending: deleting one with pending messages would lose
-- those. The check and the deletion are one step, so nothing can become pending between them.
-- KEYS: 1 stream                                                                    (schema: keys.py)
-- ARGV: 1 group  2 own consumer  3 idle ms
-- Returns how many were deleted.
local gone = 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return 0 end
for _, row in ipairs(consumers) do
  local facts = {}
  for i = 1, #row, 2 do facts[row[i]] = row[i + 1] end
  if facts.name ~= ARGV[2] and facts.pending == 0 and facts.idle > tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], facts.name)
    gone = gone + 1
  end
end
return gone
