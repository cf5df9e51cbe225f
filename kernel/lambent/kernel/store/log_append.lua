-- Adds lines to one log group, in one call: a command per line would cost the writer more than its function did.
--
-- KEYS[1]  lambent:{sN}:log:GROUP      stream of the group's lines: v schema, t ms since the epoch, s log stream, m text
-- KEYS[2]  lambent:{sN}:logs           set of the groups that exist
-- KEYS[3]  lambent:{sN}:loggroup:GROUP hash: created (ms), retention (days; absent: for ever), and per log stream
--            s:NAME  JSON: [created, first event's time, last event's time, last ingestion], ms; without events the
--                    last three are null
-- ARGV     group, most lines to keep, schema, JSON list of strings: t, s, m of each line in turn, most log streams
-- Returns the number of lines.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('HSETNX', KEYS[3], 'created', string.format('%d', now))
local parts = cjson.decode(ARGV[4])
local spans = {}
for i = 1, #parts, 3 do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*',
    'v', ARGV[3], 't', parts[i], 's', parts[i + 1], 'm', parts[i + 2])
  local at, span = tonumber(parts[i]), spans[parts[i + 1]]
  if span then
    span[1], span[2] = math.min(span[1], at), math.max(span[2], at)
  else
    spans[parts[i + 1]] = {at, at}
  end
end
for name, span in pairs(spans) do
  local created, first, last = now, span[1], span[2]
  local known = redis.call('HGET', KEYS[3], 's:' .. name)
  if known then
    local row = cjson.decode(known)
    created = row[1]
    if row[2] ~= cjson.null then first, last = math.min(first, row[2]), math.max(last, row[3]) end
  end
  redis.call('HSET', KEYS[3], 's:' .. name, string.format('[%d,%d,%d,%d]', created, first, last, now))
end
-- Each environment has a log stream of its own: those whose lines are gone go too.
if redis.call('HLEN', KEYS[3]) > tonumber(ARGV[5]) then
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  local since = tonumber(string.match(oldest[1], '^%d+'))
  local rows = redis.call('HGETALL', KEYS[3])
  for i = 1, #rows, 2 do
    if string.sub(rows[i], 1, 2) == 's:' then
      local row = cjson.decode(rows[i + 1])
      if row[4] ~= cjson.null and row[4] < since then redis.call('HDEL', KEYS[3], rows[i]) end
    end
  end
end
return #parts / 3
