-- Delayed messages of a queue, the soonest first, without moving them.
-- KEYS: 1 delayed zset  2 delayed bodies                                            (schema: keys.py)
-- ARGV: 1 offset  2 limit
-- Returns per message: id, due ms, body, meta, first put ms.
local found = {}
local ids = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1, 'WITHSCORES')
for i = 1, #ids, 2 do
  local packed = redis.call('HGET', KEYS[2], ids[i])
  if packed then
    local message = cmsgpack.unpack(packed)
    found[#found + 1] = {ids[i], ids[i + 1], message[1], message[2], message[3]}
  end
end
return found
