-- Removes an alias with its event-invoke configuration, its provisioned allocation and its URL.
--
-- KEYS[1] lambent:{s<N>}:fn:<name>    see function_create.lua
-- ARGV    the alias's name, message for the channel lambent:changes
-- Answers the JSON of that URL, or '' where there was none.

local url = redis.call('HGET', KEYS[1], 'url:' .. ARGV[1])
redis.call('HDEL', KEYS[1], 'alias:' .. ARGV[1], 'invoke:' .. ARGV[1],
  'provisioned:' .. ARGV[1], 'url:' .. ARGV[1])
redis.call('PUBLISH', 'lambent:changes', ARGV[2])
return url or ''
