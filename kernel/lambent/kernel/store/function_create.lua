-- Creates a function, if its name is free, with its indexes, in one step; and with its first version, if one is
-- published at once.
--
-- KEYS[1] lambent:{s<N>}:fn:<name>    hash: uid, revision, bytes (its archive's), latest (JSON), and where it has
--                                     them serving (JSON), reserved (a number), recursion (AWS's RecursiveLoop),
--                                     invoke:<qualifier> (JSON of its event-invoke configuration),
--                                     provisioned:<qualifier> (JSON of its provisioned allocation),
--                                     url:<alias or $LATEST> (JSON of its URL; lambent:urls has its id),
--                                     alias:<name> (JSON) and tag:<key> for each tag; once a version was
--                                     published: last (its number), last_revision (what its revision was then),
--                                     last_description (that of latest then), version_bytes (all their archives')
-- KEYS[2] lambent:{s<N>}:functions    sorted set: the shard's names, all of score 0, so by name
-- KEYS[3] lambent:{s<N>}:bytes        number: archives of the shard's functions, versions and layer versions
-- KEYS[4] lambent:{s<N>}:versions:<name>  hash: number of a published version -> JSON
-- ARGV    name, uid, revision, bytes, message for the channel lambent:changes, the version's JSON or '' for none,
--         then field, value, ...
-- Answers 1, or 0 if the name is taken. Repeating a step that was done answers 1 as well.

local stored = redis.call('HMGET', KEYS[1], 'uid', 'revision')
if stored[1] then
  return (stored[1] == ARGV[2] and stored[2] == ARGV[3]) and 1 or 0
end
redis.call('HSET', KEYS[1], 'uid', ARGV[2], 'revision', ARGV[3], 'bytes', ARGV[4], unpack(ARGV, 7))
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('INCRBY', KEYS[3], ARGV[4])
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[4], '1', ARGV[6])
  redis.call('INCRBY', KEYS[3], ARGV[4])
end
redis.call('PUBLISH', 'lambent:changes', ARGV[5])
return 1
