-- Changes what is known of a log group besides its lines, in one step.
--
-- KEYS     as log_append.lua
-- ARGV     what to do: create-group GROUP MS | retention GROUP DAYS-or-"" | create-stream GROUP MS NAME
--          | delete-stream GROUP NAME
-- Returns 1 when done, 0 when it is there already (create) or not there (the others), -1 when the group is not there.
local step, group = ARGV[1], ARGV[2]
local exists = redis.call('SISMEMBER', KEYS[2], group) == 1
if step == 'create-group' then
  if exists then return 0 end
  redis.call('SADD', KEYS[2], group)
  redis.call('HSET', KEYS[3], 'created', ARGV[3])
  return 1
end
if not exists then return -1 end
if step == 'retention' then
  if ARGV[3] == '' then
    redis.call('HDEL', KEYS[3], 'retention')
  else
    redis.call('HSET', KEYS[3], 'retention', ARGV[3])
  end
  return 1
end
if step == 'create-stream' then
  return redis.call('HSETNX', KEYS[3], 's:' .. ARGV[4], '[' .. ARGV[3] .. ',null,null,null]')
end
if step == 'delete-stream' then
  if redis.call('HDEL', KEYS[3], 's:' .. ARGV[3]) == 0 then return 0 end
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 's' and entry[2][i + 1] == ARGV[3] then redis.call('XDEL', KEYS[1], entry[1]) end
    end
  end
  return 1
end
return redis.error_reply('unknown step ' .. step)
