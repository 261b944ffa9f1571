"""`history`: the calls that are kept."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from personaplex_bridge import logs
from personaplex_bridge.cli import types
from personaplex_bridge.cli.common import FAILED, add_command, environment, run
from personaplex_bridge.config import read_settings

if TYPE_CHECKING:
    from personaplex_bridge.history.calls import Call, WholeCall
    from personaplex_bridge.history.queries import Search
    from personaplex_bridge.history.store import History

_HISTORY = """\
Looks into the calls that the bridge has kept (HISTORY, DATABASE_URL; docs/history.md). It may run
beside the bridge. Times are UTC.

  personaplex-bridge history list --since 7d --text '"front desk" book*'
  personaplex-bridge history show 0d3f6a1c2b4e5f60
  personaplex-bridge history export --format csv --out calls.csv --since 2026-01-01
  personaplex-bridge history delete-caller +15550100      everything of a person's
"""

OUTCOMES = (
    *("in-progress", "hung-up", "bridge-ended", "model-failed", "line-lost", "error", "lost"),
)
SORTS = ("started", "duration", "delay", "barge-ins")
PROGRESS_EVERY_S = 1.0

Work: TypeAlias = "Callable[[History], Awaitable[int]]"


def add(commands: Any) -> None:
    """Add this module's commands."""
    parser = add_command(commands, "history", None, "the calls that the bridge has kept", _HISTORY)
    group = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_list(group)
    _add_show(group)
    _add_export(group)
    _add_deletions(group)
    _add_stats(group)
    text = "Brings the database's tables to this version. `serve` does that by itself at start."
    add_command(group, "migrate", _migrate, "bring the tables to this version", text)


def _add_list(group: Any) -> None:
    text = "Lists calls, the newest first. More of them: --after with what the last line says."
    parser = add_command(group, "list", _list, "list calls, or search for some", text)
    _add_filters(parser)
    parser.add_argument(
        "--sort", choices=SORTS, default="started", help="what by (default %(default)s)"
    )
    parser.add_argument("--ascending", action="store_true", help="the least, or oldest, first")
    parser.add_argument(
        "--limit", type=types.number(1, 500), default=50, help="at most so many (%(default)s)"
    )
    parser.add_argument("--after", default="", metavar="NEXT", help="go on after a list before")
    _add_json(parser)


def _add_show(group: Any) -> None:
    text = "Shows a call: its figures, its timeline, and what the model said."
    parser = add_command(group, "show", _show, "show a call", text)
    parser.add_argument("id", help="16 hexadecimal digits, from `list`")
    _add_json(parser)


def _add_export(group: Any) -> None:
    text = "Writes calls as JSON, with all that is kept, or as CSV, a line for each; oldest first."
    parser = add_command(group, "export", _export, "write calls as JSON or CSV", text)
    _add_filters(parser)
    parser.add_argument(
        "--format", choices=("json", "csv"), default="json", help="(default %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="(default: standard output)")


def _add_deletions(group: Any) -> None:
    text = (
        "Deletes every call of a caller, by their whole number, and all that is kept of it.\n"
        "A call of theirs that is in progress is kept when it is over: then type it again."
    )
    parser = add_command(group, "delete-caller", _delete_caller, "delete a caller's calls", text)
    parser.add_argument("number", help="such as +15550100; or - to read it from standard input")
    parser.add_argument("--yes", action="store_true", help="don't ask")
    parser = add_command(group, "delete", _delete, "delete a call", "Deletes a call.")
    parser.add_argument("id", help="16 hexadecimal digits, from `list`")


def _add_stats(group: Any) -> None:
    text = "Calls in numbers: how many, how they ended, how long they were, how soon answered."
    parser = add_command(group, "stats", _stats, "calls in numbers", text)
    _add_filters(parser)
    _add_json(parser)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    only = parser.add_argument_group("only calls")
    only.add_argument(
        "--text", default="", help='in which the model said these words; "in a row"; begin*'
    )
    only.add_argument("--number", default="", help="of this caller, by their whole number")
    only.add_argument("--persona", default="", help="with this persona")
    only.add_argument("--outcome", choices=OUTCOMES, help="that ended so")
    only.add_argument(
        "--model-failed", action="store_const", const=True, help="in which the model failed"
    )
    only.add_argument(
        "--since", type=types.moment, metavar="WHEN", help="from then on: 2026-01-31, or 7d, 12h"
    )
    only.add_argument("--until", type=types.moment, metavar="WHEN", help="before then")
    only.add_argument(
        "--min-duration", type=types.seconds, metavar="SECONDS", help="at least so long"
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _with_history(work: Work) -> int:
    """Run something with the history of the settings."""
    from personaplex_bridge.history import check_packages

    check_packages()
    from personaplex_bridge.history.store import open_history

    settings = read_settings(environment())
    logs.configure(settings.log_level, settings.secrets)

    async def opened() -> int:
        async with open_history(settings) as history:
            return await work(history)

    return int(run(opened()))


def _search(arguments: argparse.Namespace) -> Search:
    from personaplex_bridge.history.calls import Outcome
    from personaplex_bridge.history.queries import Search, Sort

    return Search(
        text=arguments.text,
        number=arguments.number,
        persona=arguments.persona,
        outcome=Outcome(arguments.outcome) if arguments.outcome else None,
        model_failed=arguments.model_failed,
        since=arguments.since,
        until=arguments.until,
        min_duration_s=arguments.min_duration,
        sort=Sort(getattr(arguments, "sort", "started")),
        descending=not getattr(arguments, "ascending", False),
        limit=getattr(arguments, "limit", 50),
        after=getattr(arguments, "after", ""),
    )


def _list(arguments: argparse.Namespace) -> int:
    async def work(history: History) -> int:
        page = await history.search(_search(arguments))
        if arguments.json:
            calls = [call.as_dict() for call in page.calls]
            print(json.dumps({"calls": calls, "next": page.next}, indent=2))
            return 0
        for call in page.calls:
            print(_line(call))
        if not page.calls:
            print("no calls", file=sys.stderr)
        if page.next is not None:
            print(f"more: --after {page.next}", file=sys.stderr)
        return 0

    return _with_history(work)


def _show(arguments: argparse.Namespace) -> int:
    async def work(history: History) -> int:
        whole = await history.call(arguments.id)
        if whole is None:
            print(f"error: there is no call {arguments.id}", file=sys.stderr)
            return FAILED
        if arguments.json:
            print(json.dumps(whole.as_dict(), indent=2, ensure_ascii=False))
        else:
            print("\n".join(_page(whole)))
        return 0

    return _with_history(work)


def _export(arguments: argparse.Namespace) -> int:
    async def work(history: History) -> int:
        from personaplex_bridge.history.exporting import Format, export

        form, search = Format(arguments.format), _search(arguments)
        told = _Progress("calls written")
        if arguments.out is None:
            async for part in export(history, search, form, told):
                sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
        else:
            with arguments.out.open("wb") as file:
                async for part in export(history, search, form, told):
                    file.write(part)
        told.end()
        return 0

    try:
        return _with_history(work)
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        print(f"error: can't write {arguments.out}: {error.strerror}", file=sys.stderr)
        return FAILED


def _delete_caller(arguments: argparse.Namespace) -> int:
    number = sys.stdin.readline().strip() if arguments.number == "-" else arguments.number

    async def work(history: History) -> int:
        from personaplex_bridge.history.queries import Search

        found = await history.count(Search(number=number)) if number.strip() else 0
        question = f"Delete {found} call{'' if found == 1 else 's'} for ever?"
        if found and not arguments.yes and not _agrees(question):
            print("nothing deleted", file=sys.stderr)
            return FAILED
        told = _Progress("calls deleted")
        deleted = await history.delete_caller(number, told)
        print(f"{deleted.calls} calls and {deleted.recordings} recordings deleted")
        _tell_missing(deleted.recordings_missing)
        return 0

    return _with_history(work)


def _delete(arguments: argparse.Namespace) -> int:
    async def work(history: History) -> int:
        deleted = await history.delete_call(arguments.id)
        if deleted.calls:
            print("deleted, with its recording" if deleted.recordings else "deleted")
            _tell_missing(deleted.recordings_missing)
            return 0
        print(f"error: there is no call {arguments.id}", file=sys.stderr)
        return FAILED

    return _with_history(work)


def _tell_missing(recordings: int) -> None:
    if recordings:
        print(
            f"warning: {recordings} recordings not found in RECORDINGS_FOLDER: they are gone "
            "already, or on another machine, where RECORDING_DAYS sees to them",
            file=sys.stderr,
        )


def _stats(arguments: argparse.Namespace) -> int:
    async def work(history: History) -> int:
        stats = await history.stats(_search(arguments))
        if arguments.json:
            print(json.dumps(stats.as_dict(), indent=2))
            return 0
        print(f"calls         {stats.calls} ({stats.in_progress} in progress), {stats.hours:.1f} h")
        for what, counts in (("outcome", stats.by_outcome), ("persona", stats.by_persona)):
            shown = ", ".join(f"{name} {count}" for name, count in counts.items())
            print(f"{what:<13} {shown or '-'}")
        print(f"model failed  in {stats.model_failed}")
        for what, of in (("duration", stats.duration_s), ("answered in", stats.turn_delay_s)):
            print(f"{what:<13} {_seconds(of.median)} (median), {_seconds(of.p95)} (95 of 100)")
        return 0

    return _with_history(work)


def _migrate(_arguments: argparse.Namespace) -> int:
    async def work(history: History) -> int:
        await history.prepare()
        print("the database's tables are of this version")
        return 0

    return _with_history(work)


class _Progress:
    """A line on a terminal that tells how far long work has come."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told_s = time.monotonic()
        self._done = 0

    def __call__(self, done: int) -> None:
        self._done = done
        now_s = time.monotonic()
        if now_s - self._told_s >= PROGRESS_EVERY_S:
            self._told_s = now_s
            print(f"{done} {self._what} ...", file=sys.stderr, flush=True)

    def end(self) -> None:
        """All is done."""
        print(f"{self._done} {self._what}", file=sys.stderr)


def _agrees(question: str) -> bool:
    if not sys.stdin.isatty():
        print(f"{question} Nobody to ask: say so with --yes", file=sys.stderr)
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _line(call: Call) -> str:
    began = call.started_at.strftime("%Y-%m-%d %H:%M:%S")
    parts = f"{call.caller or '-':<15} {call.persona:<16.16} {_seconds(call.duration_s):>9}"
    failed = "  model failed" if call.failures and call.outcome == "hung-up" else ""
    return f"{call.id}  {began}  {parts}  {call.outcome}{failed}"


def _page(whole: WholeCall) -> list[str]:
    call = whole.call
    lines = [_line(call), ""]
    lines += [
        f"called {call.called or '-'}, model server {call.model_server or '-'}, by {call.bridge}",
        f"ended by {call.ended_by or '-'}: {call.ended_reason or '-'}",
        f"model ready {_seconds(call.handshake_s)}, first audio {_seconds(call.first_audio_s)}",
        f"turns {call.turns}, answered in {_seconds(call.turn_delay_s)}, "
        f"barge-ins {call.barge_ins}, model failed {call.failures} times, keys {call.keys}",
        "",
    ]
    timeline = [(event.at_s, 0, _event(event.kind, event.detail)) for event in whole.details.events]
    said = [(phrase.at_s, 1, f"“{phrase.text}”") for phrase in whole.details.phrases]
    lines += [f"{at_s:>9.2f} s  {text}" for at_s, _, text in sorted(timeline + said)]
    return lines


def _event(kind: str, detail: Any) -> str:
    shown = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in detail.items()
    )
    return f"{kind}: {shown}" if shown else str(kind)


def _seconds(length_s: float | None) -> str:
    return "never" if length_s is None else f"{length_s:.2f} s"
