-- Adds up a batch of one executor's usage records, once: the executor's mark moves in the same step, so that a batch
-- sent again, whole or in other cuts, adds nothing twice.
--
-- KEYS[1]  lambent:{usage}:mark:EXECUTOR     sequence of the executor's last record that is added up
-- KEYS[2]  lambent:{usage}:gaps              hash: executor -> records that never came
-- KEYS[3+] lambent:{usage}:PERIOD:START      hash of one minute, hour or day:
--            v           schema number
--            k:ROW       what the row is of, JSON: function, uid, version, alias, architecture, [[tag, value], ...]
--            ROW:NAME    a sum, or for peak_memory the most
-- ARGV     the mark that the sender knows, the batch's first sequence, its last one, seconds to keep the mark,
--          schema, then per KEYS[3+]: epoch seconds when it goes, number of rows, and per row: ROW, what it is of,
--          number of values, NAME, value ...
-- Returns the mark: the batch's last sequence once it is added; another one if nothing was, because the sender knew a
-- wrong one.
local mark = tonumber(redis.call('GET', KEYS[1]) or '0')
if mark ~= tonumber(ARGV[1]) then return mark end
local missing = tonumber(ARGV[2]) - mark - 1
if missing > 0 then redis.call('HINCRBY', KEYS[2], string.match(KEYS[1], ':mark:(.*)$'), missing) end
local i = 6
for k = 3, #KEYS do
  local key, goes, rows = KEYS[k], ARGV[i], tonumber(ARGV[i + 1])
  i = i + 2
  redis.call('HSETNX', key, 'v', ARGV[5])
  for _ = 1, rows do
    local row, count = ARGV[i], tonumber(ARGV[i + 2])
    redis.call('HSETNX', key, 'k:' .. row, ARGV[i + 1])
    i = i + 3
    for _ = 1, count do
      local field = row .. ':' .. ARGV[i]
      if ARGV[i] == 'peak_memory' then
        local most = tonumber(redis.call('HGET', key, field) or '0')
        if tonumber(ARGV[i + 1]) > most then redis.call('HSET', key, field, ARGV[i + 1]) end
      else
        redis.call('HINCRBY', key, field, ARGV[i + 1])
      end
      i = i + 2
    end
  end
  redis.call('EXPIREAT', key, goes)
end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return tonumber(ARGV[3])
