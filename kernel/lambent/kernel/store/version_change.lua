-- Writes a published version's new state, if its stored revision is the expected one.
--
-- KEYS[1] lambent:{s<N>}:versions:<name>  see function_create.lua
-- ARGV    number, expected revision, JSON, message for the channel lambent:changes
-- Answers 1, 0 if another change came first or it is gone. Repeating a step that was done answers 1.

local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored == ARGV[3] then
  return 1
end
if not stored or cjson.decode(stored).revision_id ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('PUBLISH', 'lambent:changes', ARGV[4])
return 1
