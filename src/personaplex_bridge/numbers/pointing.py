"""Pointing a number at a bridge, and back to where it was.

What was before is kept before anything changes, and forgotten only once it is put back. So there
is no moment at which a process may not die:

    kept    number           the next `point`                 `restore`
    ----    ------           ----------------                 ---------
    no      as it was        keeps, then sets                 nothing to do
    yes     as it was        adds its URL, then sets          forgets
    yes     ours             adds its URL, then sets          puts back, then forgets
    yes     somebody else's  keeps theirs anew, then sets     refuses, unless forced
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from urllib.parse import urlencode

from personaplex_bridge.errors import NumberError, TwilioError
from personaplex_bridge.numbers.records import Number, Routing
from personaplex_bridge.numbers.rest import TwilioRest
from personaplex_bridge.numbers.saved import MAX_URLS, Saved, SavedNumbers

METHOD = "POST"

_NO_SUCH_RESOURCE = 20404


@dataclass(frozen=True, slots=True)
class Pointed:
    """What was done. `was` is where the number pointed; `before` what will be put back, if kept."""

    number: Number
    was: Routing
    before: Routing | None


def webhook_url(base: str, path: str, persona: str | None = None) -> str:
    """The voice webhook of the bridge at `base`, for one of its personas."""
    query = "" if persona is None else "?" + urlencode({"persona": persona})
    return f"{base}{path}{query}"


async def choose(rest: TwilioRest, number: str | None) -> Number:
    """The number that is meant: `number` (E.164), or the only one that takes calls.

    Raises:
        NumberError: there is none, or there are several.
        TwilioError: no answer, or a refusal.
    """
    found = await rest.numbers(number)
    if number is not None and not found:
        raise NumberError(
            "this account has no such number: see `personaplex-bridge twilio numbers`"
        )
    able = [each for each in found if each.takes_calls]
    if not able:
        raise NumberError(
            "this account has no number that takes calls: buy one with Voice in Twilio's console "
            "(Phone Numbers, Buy a number)"
        )
    if len(able) > 1:
        raise NumberError(
            f"this account has {len(able)} numbers that take calls: say which one is meant",
            tuple(each.number for each in able),
        )
    return able[0]


def is_at(routing: Routing, url: str) -> bool:
    """Whether calls go to `url` as we set it, past any application or trunk."""
    return routing == _pointed(routing, url) and not routing.trunk_sid


async def point(
    rest: TwilioRest,
    saved: SavedNumbers,
    account_sid: str,
    number: Number,
    url: str,
    *,
    stays: bool = True,
) -> Pointed:
    """Let the number's calls go to `url`, after keeping where they went. Unless it `stays`,
    `release` goes back to the one that does.

    Raises:
        NumberError: a SIP trunk has the number, or the state can't be kept.
        TwilioError: no answer, or a refusal.
    """
    was, kept = number.routing, saved.get(number.sid)
    if was.trunk_sid:
        raise NumberError(
            f"the number {number.sid} belongs to the SIP trunk {was.trunk_sid}, which takes its "
            "calls before any webhook: take it out of the trunk in Twilio's console, or choose "
            "another number"
        )
    if is_at(was, url) and kept is None:
        return Pointed(number, was, None)  # not by us: there is nothing to put back
    kept = _to_keep(account_sid, number, kept, url)
    saved.keep(dataclasses.replace(kept, standing=url) if stays else kept)
    now = await _route(rest, number, _pointed(was, url))
    if not is_at(now.routing, url):
        raise NumberError(f"the number {number.sid} doesn't point here, though Twilio was asked")
    return Pointed(now, was, kept.before)


async def restore(
    rest: TwilioRest, saved: SavedNumbers, kept: Saved, *, force: bool = False
) -> Pointed:
    """Put back what we have changed of a number; with `force`, all that it was.

    Raises:
        NumberError: the number points somewhere that is neither ours nor where it was before, or
            isn't this account's any more.
        TwilioError: no answer, or a refusal.
    """
    try:
        done = await _back(rest, kept, kept.before, force=force)
    except TwilioError as error:
        if error.code != _NO_SUCH_RESOURCE:
            raise
        saved.forget(kept.number_sid)
        raise NumberError(
            f"the number {kept.number_sid} is not this account's any more: what was kept of it is "
            "forgotten"
        ) from error
    saved.forget(kept.number_sid)
    return done


async def release(rest: TwilioRest, saved: SavedNumbers, kept: Saved) -> Pointed:
    """Take back an URL that was set for a while: to the one that stays, or else `restore`.

    Raises:
        NumberError, TwilioError: as `restore` does.
    """
    if not kept.standing:
        return await restore(rest, saved, kept)
    return await _back(rest, kept, after_release(kept))


def after_release(kept: Saved) -> Routing:
    """Where `release` leads."""
    return _pointed(kept.before, kept.standing) if kept.standing else kept.before


async def _back(rest: TwilioRest, kept: Saved, goal: Routing, *, force: bool = False) -> Pointed:
    number = await rest.number(kept.number_sid)
    was, back = number.routing, _put_back(number.routing, goal)
    if was != back and not _is_ours(was, kept) and not force:
        raise NumberError(
            f"somebody has changed the number {number.sid} since: its calls go to {was.told}. "
            "`personaplex-bridge twilio restore --force` puts back what was before all the same"
        )
    number = await _route(rest, number, goal if force else back)
    return Pointed(number, was, kept.before)


async def _route(rest: TwilioRest, number: Number, becomes: Routing) -> Number:
    """Only what differs is sent."""
    before, after = number.routing.serialize(), becomes.serialize()
    changes = {name: value for name, value in after.items() if value != before[name]}
    return await rest.route(number.sid, changes) if changes else number


def _to_keep(account_sid: str, number: Number, kept: Saved | None, url: str) -> Saved:
    """What is to be kept of a number that will point to `url`."""
    if kept is None or not _is_as_left(number.routing, kept):
        return Saved(account_sid, number.sid, number.routing, (url,))
    ours = dict.fromkeys((*kept.ours, url))
    return dataclasses.replace(kept, ours=tuple(ours)[-MAX_URLS:])


def _is_as_left(routing: Routing, kept: Saved) -> bool:
    """Whether nobody else has changed where calls go since `kept` was kept."""
    return _is_ours(routing, kept) or routing == _put_back(routing, kept.before)


def _is_ours(routing: Routing, kept: Saved) -> bool:
    return any(is_at(routing, url) for url in (*kept.ours, kept.standing) if url)


def _pointed(routing: Routing, url: str) -> Routing:
    """The fallback and the status callback are left alone: they go on to work."""
    return dataclasses.replace(
        routing, voice_url=url, voice_method=METHOD, voice_application_sid=""
    )


def _put_back(routing: Routing, before: Routing) -> Routing:
    """With what `_pointed` changes as it was before."""
    return dataclasses.replace(
        routing,
        voice_url=before.voice_url,
        voice_method=before.voice_method,
        voice_application_sid=before.voice_application_sid,
    )
