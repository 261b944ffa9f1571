"""What Redis does in one step, in its own language (Lua 5.1), for `RedisLeases`.

    leases   hash: slot -> {owner, token, spare, ttl, until, nonce}, `until` in ms of Redis's clock;
             and `run`, `since`: which run of Redis this is, and since when
    tokens   hash: slot -> the token of its last lease
    wanted   hash: slot -> until when a caller of another bridge waits for it
    line     sorted set: waiting calls by ticket
    asked    sorted set: waiting calls by when they last asked
    tickets  the last ticket

A Redis that has just started may have lost leases: all of them, or, with an old snapshot, the
newest. One that runs may have dropped `leases` for want of memory, or another may have taken its
place; all of that shows in `run` and `since`. Then for one TTL it gives out nothing new, while
holders renew and thereby restore theirs; those who can't have stopped using them by then. Every
step is harmless when it is done twice: a client whose connection broke can't tell.
"""

from __future__ import annotations

KEYS = ("leases", "tokens", "wanted", "line", "asked", "tickets")

_PRELUDE = """
local leases, tokens, wanted, line, asked, tickets = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner, ttl = ARGV[1], tonumber(ARGV[2])
local forgotten, present = tonumber(ARGV[3]), tonumber(ARGV[4])
local next_argument = 5
local function argument()
    next_argument = next_argument + 1
    return ARGV[next_argument - 1]
end

-- A new run, or a clock that was set back: begin anew.
local info = redis.pcall('INFO', 'server')  -- which not every Redis that is hired allows
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local since = tonumber(redis.call('HGET', leases, 'since') or now + 1)
if redis.call('HGET', leases, 'run') ~= run or since > now then
    since = now
    redis.call('HSET', leases, 'run', run, 'since', since)
end
local is_new = now < since + ttl

local function read(slot)
    local text = redis.call('HGET', leases, slot)
    local lease = text and cjson.decode(text)
    if lease then
        lease['until'] = math.min(lease['until'], now + lease.ttl)
    end
    return lease
end
local function write(slot, lease)
    lease.owner, lease.ttl, lease['until'] = owner, ttl, now + ttl
    redis.call('HSET', leases, slot, cjson.encode(lease))
end
local function is_wanted(slot)
    return tonumber(redis.call('HGET', wanted, slot) or 0) > now
end
local function forget()
    for _, call in ipairs(redis.call('ZRANGEBYSCORE', asked, '-inf', now - forgotten)) do
        redis.call('ZREM', asked, call)
        redis.call('ZREM', line, call)
    end
    for _, call in ipairs(redis.call('ZRANGEBYSCORE', asked, now + 1000, '+inf')) do
        redis.call('ZADD', asked, now, call)
    end
end
"""

TAKE = (
    _PRELUDE
    + """
-- call, obey_queue, warm, nonce, count of our spare slots, (slot, token)..., slots...
local call, obey, warm, nonce = argument(), argument() == '1', argument() == '1', argument()
local spare = {}
for _ = 1, tonumber(argument()) do
    local slot = argument()
    spare[slot] = tonumber(argument())
end
local free, chosen, continues, to_ask = 0, nil, 0, nil
for index = next_argument, #ARGV do
    local slot = ARGV[index]
    local lease = read(slot)
    if lease and lease.nonce == nonce and lease.owner == owner then
        return {'lease', slot, lease.token, lease.continues}  -- asked twice
    end
    local ours = lease and lease.owner == owner and lease.token == spare[slot]
    if ours or not lease or lease['until'] <= now then
        free = free + 1
        local may_be = ours and not warm or not ours and not is_new
        if may_be and not chosen and not (warm and is_wanted(slot)) then
            chosen, continues = slot, ours and 1 or 0
        end
    elseif lease.spare then
        free = free + 1
        if not to_ask or is_wanted(to_ask) then
            to_ask = slot
        end
    end
end
forget()
local ahead = 0
for _, other in ipairs(obey and free > 0 and redis.call('ZRANGE', line, 0, -1) or {}) do
    if other == call or ahead >= free then
        break
    elseif tonumber(redis.call('ZSCORE', asked, other) or 0) > now - present then
        ahead = ahead + 1
    end
end
if obey and free > 0 and ahead >= free then
    return {'behind'}
end
if chosen then
    local token = math.max((tonumber(redis.call('HGET', tokens, chosen)) or 0) + 1, now)
    redis.call('HSET', tokens, chosen, string.format('%.0f', token))
    write(chosen, {token = token, spare = warm, nonce = nonce, continues = continues})
    redis.call('HDEL', wanted, chosen)
    redis.call('ZREM', line, call)
    redis.call('ZREM', asked, call)
    return {'lease', chosen, token, continues}
end
if to_ask and not warm then
    redis.call('HSET', wanted, to_ask, now + 8000)
    return {'coming'}
end
return {is_new and free > 0 and 'starting' or 'taken'}
"""
)
"""Answers ('lease', slot, token, continues), or why not: ('behind',), ('coming',), ('starting',) or
('taken',).
"""

RENEW = (
    _PRELUDE
    + """
-- count, (slot, token, spare)...
local answers = {}
for index = 1, tonumber(argument()) do
    local slot, token, spare = argument(), tonumber(argument()), argument() == '1'
    local lease = read(slot)
    local ours = lease and lease.owner == owner
    -- A new Redis may have forgotten it, or remember one that was before it.
    if is_new and (not lease or lease.token < token) then
        lease = {token = token, nonce = '', continues = 0}
        redis.call('HSET', tokens, slot, string.format('%.0f', token))
        ours = true
    end
    if ours and lease.token == token then
        lease.spare = spare
        write(slot, lease)
        answers[index] = (spare and is_wanted(slot)) and 'wanted' or 'renewed'
    elseif ours and lease.token > token then
        answers[index] = 'replaced'
    else
        answers[index] = 'lost'
    end
end
local elsewhere = {}
local all = redis.call('HGETALL', leases)
for index = 1, #all, 2 do
    local slot = all[index]
    local lease = slot ~= 'run' and slot ~= 'since' and cjson.decode(all[index + 1])
    if lease and lease['until'] <= now - 60000 then
        redis.call('HDEL', leases, slot)
    elseif lease and lease.owner ~= owner and not lease.spare and lease['until'] > now then
        elsewhere[#elsewhere + 1] = slot
    end
end
return {answers, elsewhere}
"""
)
"""Answers for each lease 'renewed', 'wanted', 'replaced' or 'lost'; and who else has calls."""

RELEASE = (
    _PRELUDE
    + """
-- slot, token
local slot, token = argument(), tonumber(argument())
local lease = read(slot)
if lease and lease.owner == owner and lease.token == token then
    redis.call('HDEL', leases, slot)
end
return 0
"""
)

WAIT = (
    _PRELUDE
    + """
-- call, limit
local call, limit = argument(), tonumber(argument())
forget()
if not redis.call('ZSCORE', line, call) then
    if redis.call('ZCARD', line) >= limit then
        return 0
    end
    redis.call('ZADD', line, redis.call('INCR', tickets), call)
end
redis.call('ZADD', asked, now, call)
return redis.call('ZRANK', line, call) + 1
"""
)
"""Answers the place, from 1; 0 if the line is full."""

LEAVE = (
    _PRELUDE
    + """
-- call
local call = argument()
redis.call('ZREM', line, call)
redis.call('ZREM', asked, call)
return 0
"""
)
