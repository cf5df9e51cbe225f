-- Keeps a consumer's running messages its own: resets their idle time, but only of those that are still its,
-- because a paused consumer must not take back what another has rightly claimed.
-- KEYS: 1 stream                                                                    (schema: keys.py)
-- ARGV: 1 group  2 consumer, then stream ids
-- Returns the ids that are not this consumer's any more.
local lost = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) == 0 then
    lost[#lost + 1] = id
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'JUSTID')
  end
end
return lost
