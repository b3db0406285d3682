"""What Redis does in one step: the scripts of `km_logging.outbox.stream`, in Redis's own language (Lua).

Each is given the keys of the stream and of the dead one.
"""

from __future__ import annotations

__all__ = ["ADD", "BURY", "DELETE", "HAND", "JOIN", "LEAVE", "REVIVE"]

#: Add calls as long as there is room. Arguments: most calls of both streams, then accepted_at and request of each.
#: Returns how many were added, and the IDs of the first and of the last.
ADD = """
local room = ARGV[1] - redis.call('XLEN', KEYS[1]) - redis.call('XLEN', KEYS[2])
local count, first, last = 0, false, false
for i = 2, #ARGV, 2 do
  if count >= room then break end
  last = redis.call('XADD', KEYS[1], '*', 'accepted_at', ARGV[i], 'request', ARGV[i + 1])
  first = first or last
  count = count + 1
end
return {count, first, last}
"""

#: Have a consumer group, with everything before it that is in the stream. Argument: group. To make one that is there
#: is refused as well while the server's memory is full, which is when somebody has to deliver.
JOIN = """
for _, facts in ipairs(redis.pcall('XINFO', 'GROUPS', KEYS[1])) do
  for i = 1, #facts, 2 do
    if facts[i] == 'name' and facts[i + 1] == ARGV[1] then return end
  end
end
local answer = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if answer['err'] then return answer end
"""

#: Give entries from one consumer's hands into another's, or the same one's. Arguments: group, giver, taker, for how
#: long they shall seem idle in milliseconds, IDs. Returns the IDs of those that the giver does not have.
HAND = """
local lost = {}
for i = 5, #ARGV do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if #held == 0 then
    lost[#lost + 1] = ARGV[i]
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ARGV[i], 'IDLE', ARGV[4], 'JUSTID')
  end
end
return lost
"""

#: Forget entries. Arguments: group, IDs. No transaction: a server whose memory is full refuses whatever is in one.
DELETE = """
local ids = {unpack(ARGV, 2)}
redis.call('XACK', KEYS[1], ARGV[1], unpack(ids))
redis.call('XDEL', KEYS[1], unpack(ids))
"""

#: Move entries to the dead ones. Arguments: group, IDs.
BURY = """
for i = 2, #ARGV do
  local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
  if #found > 0 then
    redis.call('XADD', KEYS[2], '*', unpack(found[1][2]))
    redis.call('XDEL', KEYS[1], ARGV[i])
  end
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
end
"""

#: Move the oldest dead ones back. Arguments: accepted_at of all, how many. Returns how many there were.
REVIVE = """
local dead = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', ARGV[2])
for _, entry in ipairs(dead) do
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'accepted_at' then fields[i + 1] = ARGV[1] end
  end
  redis.call('XADD', KEYS[1], '*', unpack(fields))
  redis.call('XDEL', KEYS[2], entry[1])
end
return #dead
"""

#: Delete a consumer, and those not seen for long, that have nothing in their hands: with them that would be lost.
#: Arguments: group, consumer, long in milliseconds.
LEAVE = """
for _, facts in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #facts, 2 do consumer[facts[i]] = facts[i + 1] end
  local is_over = consumer['name'] == ARGV[2] or consumer['idle'] > tonumber(ARGV[3])
  if consumer['pending'] == 0 and is_over then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer['name'])
  end
end
"""
