"""The table in docs/security.md."""

from __future__ import annotations

from pathlib import Path

from tests.attacks.scene import Attack, Outcome

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- attacks: made by ./scripts/attacks -->", "<!-- end of attacks -->"
HEAD = "| attack | what was sent | the answer | besides |\n|---|---|---|---|"


def row(case: Attack, outcome: Outcome) -> str:
    """One line of Markdown."""
    cells = (case.name, case.sent, outcome.answer, _besides(outcome))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _besides(outcome: Outcome) -> str:
    calls = "no call" if not outcome.calls else f"{outcome.calls} call"
    lines = "no line" if not outcome.lines else f"{outcome.lines} line"
    return f"{calls}, {lines}; {outcome.harm or 'other call unharmed'}"


def committed(document: Path = DOCUMENT) -> dict[str, str]:
    """The rows that the document has, by the attack's name."""
    _, _, rest = document.read_text("utf-8").partition(BEGIN)
    lines = rest.partition(END)[0].strip().splitlines()[2:]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines}


def write(rows: list[str], document: Path = DOCUMENT) -> None:
    """Put rows in the place of those that are there."""
    before, begin, rest = document.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{document} lacks the marks {BEGIN!r} and {END!r}")
    table = "\n".join([HEAD, *rows])
    document.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", "utf-8")
