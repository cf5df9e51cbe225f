-- Puts messages, each on any queue of the same shard, now or after a delay, in the place of a delivered one, in one
-- step: there is no moment at which neither or both are there. Does nothing when the delivered one is gone
-- (another consumer ended it).
-- KEYS: 1 stream  2 delayed zset  3 delayed bodies  4 index  5 due  6 notify of the delivered one's queue, then the
--       same six of each further queue                                              (schema: keys.py)
-- ARGV: 1 queue  2 group  3 cap of notify  4 stream id of the delivered one, then per message: its queue's place in
--       KEYS (0: the delivered one's, 1: the next), its queue, body, meta, delay ms, first put ms or ""
-- Returns 1, or 0 when the delivered one was gone.
if redis.call('XDEL', KEYS[1], ARGV[4]) == 0 then return 0 end
redis.call('XACK', KEYS[1], ARGV[2], ARGV[4])
for i = 5, #ARGV, 6 do
  local first, delay = 6 * ARGV[i], tonumber(ARGV[i + 4])
  add(first, ARGV[i + 1], ARGV[2], ARGV[i + 2], ARGV[i + 3], delay, ARGV[i + 5], ARGV[4] .. '-' .. i)
  hint(first, ARGV[3], ARGV[i + 1], delay)
end
leave_if_empty(0, ARGV[1])
return 1
