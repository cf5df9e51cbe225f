-- Which queues of a shard have delayed messages that are due, by the server's clock.
-- KEYS: 1 due                                                                       (schema: keys.py)
-- Returns {ms until the next one (0: now, -1: none), {queues that are due, at most 100}}.
local now = now_ms()
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #first == 0 then return {-1, {}} end
local wait = tonumber(first[2]) - now
if wait > 0 then return {wait, {}} end
return {0, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)}
