-- Sets or removes one field of a function that changes apart from its revision: its reserved concurrency, an
-- event-invoke configuration, what becomes of its loops.
--
-- KEYS[1] lambent:{s<N>}:fn:<name>    see function_create.lua
-- ARGV    field, new value or '' for none, message for the channel lambent:changes,
--         and, where the field must still be what the caller has read, that value or '' for none,
--         and, where another field must be there, that one
-- Answers 1, 0 if the field is another one by now, -1 if the function or that other field is gone. Repeating a
-- step that was done answers 1.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return -1
end
if ARGV[5] and redis.call('HEXISTS', KEYS[1], ARGV[5]) == 0 then
  return -1
end
local stored = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if ARGV[4] and stored ~= ARGV[4] and stored ~= ARGV[2] then
  return 0
end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('PUBLISH', 'lambent:changes', ARGV[3])
return 1
