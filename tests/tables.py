"""Tables in documents that are made by running what they tell of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of Markdown between two marks; the first cell of a row is its name."""

    document: Path
    what: str
    columns: tuple[str, ...]

    @property
    def _marks(self) -> tuple[str, str]:
        return (
            f"<!-- {self.what}: made by ./scripts/{self.what} -->",
            f"<!-- end of {self.what} -->",
        )

    def committed(self) -> dict[str, str]:
        """The rows that the document has, by their names."""
        begin, end = self._marks
        _, _, rest = self.document.read_text("utf-8").partition(begin)
        lines = rest.partition(end)[0].strip().splitlines()[2:]
        return {line.split(" | ")[0].removeprefix("| "): line for line in lines}

    def write(self, rows: Sequence[str]) -> None:
        """Put rows in the place of those that are there."""
        begin, end = self._marks
        before, found, rest = self.document.read_text("utf-8").partition(begin)
        _, also_found, after = rest.partition(end)
        if not found or not also_found:
            raise SystemExit(f"{self.document} lacks the marks {begin!r} and {end!r}")
        head = [row(self.columns), "|" + "---|" * len(self.columns)]
        text = "\n".join([*head, *rows])
        self.document.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


def row(cells: Sequence[str]) -> str:
    """One line of Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
