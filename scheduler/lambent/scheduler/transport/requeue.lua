-- Makes a delivered message ready again, at the end of its queue, marked as redelivered, in one step.
-- KEYS: 1 stream  2 delayed zset  3 delayed bodies  4 index  5 due  6 notify       (schema: keys.py)
-- ARGV: 1 queue  2 group  3 cap of notify, then stream ids
-- Returns how many were there.
local again = 0
for i = 4, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    redis.call('XACK', KEYS[1], ARGV[2], ARGV[i])
    redis.call('XDEL', KEYS[1], ARGV[i])
    local fields, marked = entry[2], false
    for place = 1, #fields, 2 do marked = marked or fields[place] == 'r' end
    if not marked then
      fields[#fields + 1] = 'r'
      fields[#fields + 1] = '1'
    end
    redis.call('XADD', KEYS[1], '*', unpack(fields))
    again = again + 1
  end
end
if again > 0 then hint(0, ARGV[3], ARGV[1], 0) end
return again
