-- Writes a function's new state, if the stored revision is the expected one. Tags, reserved concurrency,
-- event-invoke configurations and the rest of what function_field.lua sets are not touched: they have steps of
-- their own and do not move the revision.
--
-- KEYS[1] lambent:{s<N>}:fn:<name>    see function_create.lua
-- KEYS[2] lambent:{s<N>}:bytes        see function_create.lua
-- ARGV    uid, expected revision, new revision, bytes, message for the channel lambent:changes,
--         latest, serving or ''
-- Answers 1, 0 if another change came first, -1 if that function is gone. Repeating a step that was done answers 1.

local stored = redis.call('HMGET', KEYS[1], 'uid', 'revision', 'bytes')
if stored[1] ~= ARGV[1] then
  return -1
end
if stored[2] ~= ARGV[2] then
  return stored[2] == ARGV[3] and 1 or 0
end
redis.call('HSET', KEYS[1], 'revision', ARGV[3], 'bytes', ARGV[4], 'latest', ARGV[6])
if ARGV[7] == '' then
  redis.call('HDEL', KEYS[1], 'serving')
else
  redis.call('HSET', KEYS[1], 'serving', ARGV[7])
end
redis.call('INCRBY', KEYS[2], ARGV[4] - stored[3])
redis.call('PUBLISH', 'lambent:changes', ARGV[5])
return 1
