-- Writes a function's new state, if the stored revision is the expected one, and publishes a version in the same
-- step, if one is given and the last number is the expected one too. Tags, aliases, reserved concurrency,
-- event-invoke configurations and the rest of what function_field.lua sets are not touched: they have steps of
-- their own and do not move the revision.
--
-- KEYS[1] lambent:{s<N>}:fn:<name>        see function_create.lua
-- KEYS[2] lambent:{s<N>}:bytes            see function_create.lua
-- KEYS[3] lambent:{s<N>}:versions:<name>  see function_create.lua
-- ARGV    uid, expected revision, new revision, bytes, message for the channel lambent:changes,
--         latest, serving or ''; and to publish: the version's revision, its bytes, its JSON, the expected last
--         number, the description of latest
-- Answers 1, or the version's number; 0 if another change came first, -1 if that function is gone. Repeating a
-- step that was done answers the same.

local stored = redis.call('HMGET', KEYS[1], 'uid', 'revision', 'bytes', 'last', 'last_revision')
if stored[1] ~= ARGV[1] then
  return -1
end
local publishing = ARGV[8]
if publishing then
  if stored[5] == ARGV[8] then
    return tonumber(stored[4])
  end
  if stored[2] ~= ARGV[2] or (stored[4] or '0') ~= ARGV[11] then
    return 0
  end
elseif stored[2] ~= ARGV[2] then
  return stored[2] == ARGV[3] and 1 or 0
end
redis.call('HSET', KEYS[1], 'revision', ARGV[3], 'bytes', ARGV[4], 'latest', ARGV[6])
if ARGV[7] == '' then
  redis.call('HDEL', KEYS[1], 'serving')
else
  redis.call('HSET', KEYS[1], 'serving', ARGV[7])
end
redis.call('INCRBY', KEYS[2], ARGV[4] - stored[3])
local answer = 1
if publishing then
  answer = redis.call('HINCRBY', KEYS[1], 'last', 1)
  redis.call('HSET', KEYS[1], 'last_revision', ARGV[8], 'last_description', ARGV[12])
  redis.call('HINCRBY', KEYS[1], 'version_bytes', ARGV[9])
  redis.call('INCRBY', KEYS[2], ARGV[9])
  redis.call('HSET', KEYS[3], answer, ARGV[10])
end
redis.call('PUBLISH', 'lambent:changes', ARGV[5])
return answer
