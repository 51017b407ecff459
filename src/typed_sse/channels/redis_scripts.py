"""What a channel is in Redis: its keys, and the scripts that change and read them.

    {namespace:channel}:m    its end: a string, packed as `_META`
    {namespace:channel}:s    its records: a stream with ids `position-tag` and a field `r`, which is
                             packed as `_ENTRY` with the body behind it
    {namespace:channel}:k:…  what an append under a key has done, packed as `RESULT` but for the
                             first byte
    namespace:names          the channels' names: a sorted set

What is in braces says which slot of a cluster it is; the first `}` ends it, so that all of a
channel's keys have the same, whatever its name. The script that appends numbers, stores, trims and
publishes at once. `prev` is not stored: positions leave nothing out. The end and the records may be
of different times, where one was evicted or put back from a copy: a reader is then told of a gap.
Knows neither connections nor the client's library.
"""

import struct
from collections.abc import Sequence
from hashlib import blake2b, sha1

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import KEY_WINDOW_S, Record, Tail

# In Lua: B is a byte, I4 and I8 are big-endian.
_META = struct.Struct(">IQIBQQ")  # epoch, pos, tag, sealed, age_ms, time_ms
_ENTRY = struct.Struct(">BIQIQ")  # seals, epoch, pos, tag, time_ms
ORDER = struct.Struct(">IIQQBBIQI")
"""A new epoch, events, age_ms, remember_ms, seal, whether a tail is expected, and which."""
RESULT = struct.Struct(">BIQIQI")
"""What was done, epoch, first, its tag, last, its tag."""

APPENDED, BEGUN, DUPLICATE, SEALED, CONFLICT = range(5)
"""What was done; `BEGUN`: there was no record before."""

_APPEND = """
local known = KEYS[3] and redis.call('GET', KEYS[3])
if known then return '\\2' .. known end
local epoch, events, age, remember, seal, expects, to_epoch, to_pos, to_tag =
  struct.unpack('>I4I4I8I8BBI4I8I4', ARGV[2])
local pos, tag, sealed, at, _ = 0, 0, 0, 0, 0
local meta = redis.call('GET', KEYS[1])
if meta then epoch, pos, tag, sealed, _, at = struct.unpack('>I4I8I4BI8I8', meta) end
local function answer(what, first, its_tag)
  return struct.pack('>BI4I8I4I8I4', what, epoch, first, its_tag, pos, tag)
end
if sealed == 1 then return answer(3, 0, 0) end
if expects == 1 and (epoch ~= to_epoch or pos ~= to_pos or tag ~= to_tag) then
  return answer(4, 0, 0)
end
-- Records of an epoch whose end is forgotten must never mix with those of another.
if not meta then redis.call('DEL', KEYS[2]) end
local time = redis.call('TIME')
local now = math.max(at, time[1] * 1000 + math.floor(time[2] / 1000))
local first, first_tag = pos + 1, struct.unpack('>I4', ARGV[3])
local records = {}
for place = 4, #ARGV do
  pos = pos + 1
  tag = struct.unpack('>I4', ARGV[3], place * 4 - 15)
  local seals = place == #ARGV and seal or 0
  local record = struct.pack('>BI4I8I4I8', seals, epoch, pos, tag, now) .. ARGV[place]
  records[place - 3] = record
  local id = string.format('%.0f-%.0f', pos, tag)
  local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', events, id, 'r', record)
  if type(added) == 'table' and added.err then
    -- The stream is of a later time than the end: what it holds is none of this log's.
    if not string.find(added.err, 'equal or smaller', 1, true) then return added end
    redis.call('DEL', KEYS[2])
    redis.call('XADD', KEYS[2], id, 'r', record)
  end
end
local kept = redis.call('XLEN', KEYS[2])
-- A channel that had no records may not be in the index any more.
local begun = kept <= #records and 1 or 0
if kept > 2 * events + 100 then
  redis.call('XTRIM', KEYS[2], 'MAXLEN', events)
end
redis.call('PEXPIRE', KEYS[2], string.format('%.0f', age))
redis.call('SET', KEYS[1], struct.pack('>I4I8I4BI8I8', epoch, pos, tag, seal, age, now),
  'PX', string.format('%.0f', math.max(age, remember)))
if KEYS[3] then
  redis.call('SET', KEYS[3], string.sub(answer(2, first, first_tag), 2), 'PX', %d)
end
for _, record in ipairs(records) do redis.call('PUBLISH', ARGV[1], record) end
return answer(begun, first, first_tag)
""".replace("%d", str(int(KEY_WINDOW_S * 1000)))

# Begins a channel where there is none, and returns its end.
_BEGIN = """
local meta = redis.call('GET', KEYS[1])
if not meta then
  redis.call('DEL', KEYS[2])
  local epoch = struct.unpack('>I4', ARGV[1])
  meta = struct.pack('>I4I8I4BI8I8', epoch, 0, 0, 0, 0, 0)
  redis.call('SET', KEYS[1], meta, 'PX', ARGV[2])
end
"""
# Returns the end, the newest record that is not behind the cursor (or ''), and what is behind it.
_READ = (
    _BEGIN
    + """
local epoch, pos, tag, sealed, age, at = struct.unpack('>I4I8I4BI8I8', meta)
local limit, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local after_epoch, after = tonumber(ARGV[5]), tonumber(ARGV[6])
local last = string.format('%.0f-%.0f', pos, tag)
local time = redis.call('TIME')
local oldest = math.max(at, time[1] * 1000 + math.floor(time[2] / 1000)) - age
local function is_old(entry) return struct.unpack('>I8', entry[2][2], 18) < oldest end
local function behind(place, count)
  return redis.call('XRANGE', KEYS[2], string.format('%.0f', place), last, 'COUNT', count)
end
local found = {meta, '', ''}
local start, expected
if after_epoch < 0 then
  start = math.max(1, pos - after + 1)
  local head = behind(start, 1)[1]
  if head and is_old(head) then
    -- Times never fall and positions leave nothing out, so halving finds the first young one.
    local old, young = start, pos + 1
    while young - old > 1 do
      local middle = math.floor((old + young) / 2)
      local entry = behind(middle, 1)[1]
      if entry and is_old(entry) then old = middle else young = middle end
    end
    start = young
  end
else
  if after_epoch ~= epoch or after >= pos then return found end
  local named = redis.call('XREVRANGE', KEYS[2], string.format('%.0f', after), '-', 'COUNT', 1)[1]
  if named and not is_old(named) then found[2] = named[2][2] end
  start, expected = after + 1, after + 1
  local head = behind(start, 1)[1]
  if head and is_old(head) then return found end
end
local size, count = 0, 8
while #found - 3 < limit and start <= pos and size <= most do
  local entries = behind(start, math.min(count, limit - #found + 3))
  if #entries == 0 then
    if after_epoch >= 0 then found[3] = 'torn' else found = {meta, '', ''} end
    return found
  end
  for _, entry in ipairs(entries) do
    local record = entry[2][2]
    local its_epoch, its_pos = struct.unpack('>I4I8', record, 2)
    if expected and (its_pos ~= expected or its_epoch ~= epoch) then
      -- The two keys are of different times: one was evicted, or put back from a copy.
      if after_epoch >= 0 then
        found[3] = 'torn'
        return found
      end
      found, size = {meta, '', ''}, 0
    end
    expected = its_pos + 1
    found[#found + 1] = record
    size = size + #record - 25
  end
  start = expected
  -- As many as may still fit, by the mean size so far: not a thousand of a channel of large ones.
  local mean = size / math.max(1, #found - 3)
  count = math.max(1, math.min(1000, math.floor((most - size) / (mean + 25))))
end
return found
"""
)


class Script:
    """A script, and the name that the server has for it."""

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        self.sha = sha1(self.source, usedforsecurity=False).hexdigest().encode()


APPEND = Script(_APPEND)
"""Keys: end, records, perhaps a key; given: whom to publish to, `ORDER`, tags, bodies."""
TAIL = Script(_BEGIN + "return meta")
"""Keys: end, records; given: a new epoch, remember_ms."""
READ = Script(_READ)
"""As `TAIL`, and given: limit, max_bytes, the cursor's epoch and position, or -1 and how many."""


def keys_of(namespace: bytes, channel: str, key: str | None = None) -> Sequence[bytes]:
    """Return the keys of a channel's end, of its records, and of an append under a key."""
    start = b"{%b:%b}:" % (namespace, channel.encode())
    if key is None:
        return start + b"m", start + b"s"
    digest = blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return start + b"m", start + b"s", start + b"k:" + digest.encode()


def record_of(channel: str, packed: bytes) -> Record:
    """Read a record as it is stored, and published."""
    seals, epoch, pos, tag, _ = _ENTRY.unpack_from(packed)
    return Record(channel, Cursor(epoch, pos, tag), pos - 1, packed[_ENTRY.size :], bool(seals))


def tail_of(meta: bytes) -> Tail:
    """Read a channel's end as it is stored."""
    epoch, pos, tag, sealed, _, _ = _META.unpack(meta)
    return Tail(Cursor(epoch, pos, tag), bool(sealed), 0)
