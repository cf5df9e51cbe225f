-- Adds lines to one log group, in one call: a command per line would cost the writer more than its function did.
--
-- KEYS[1]  lambent:{sN}:log:GROUP  stream of the group's lines: v schema, t ms since the epoch, s log stream, m text
-- KEYS[2]  lambent:{sN}:logs       set of the groups that have a stream, for trimming
-- ARGV     group, most lines to keep, schema, JSON list of strings: t, s, m of each line in turn
-- Returns the number of lines.
redis.call('SADD', KEYS[2], ARGV[1])
local parts = cjson.decode(ARGV[4])
for i = 1, #parts, 3 do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*',
    'v', ARGV[3], 't', parts[i], 's', parts[i + 1], 'm', parts[i + 2])
end
return #parts / 3
