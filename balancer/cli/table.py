"""A table in the terminal: coloured and cut to its width there, plain and whole when piped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `short` is its heading where the whole one does not fit, `styles` rich styles by the text of a cell."""

    name: str
    short: str = ""
    right: bool = False
    styles: Mapping[str, str] = field(default_factory=dict)


PLAIN_WIDTH = 10_000  # piped: nothing is cut, whoever reads it has the room


def show(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print it on stdout: short headings and narrow gaps where it would not fit otherwise, and cut only then."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    console.print(made(columns, rows, console.width))


def made(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Table:
    """The table for so many columns of characters."""
    cells = [max((len(row[index]) for row in rows), default=0) for index in range(len(columns))]
    whole = sum(max(len(column.name), size) + 2 for column, size in zip(columns, cells, strict=True)) - 2
    is_narrow = whole > width
    table = Table(box=None, pad_edge=False, padding=(0, 1 if is_narrow else 2, 0, 0), header_style="dim")
    for column in columns:
        name = column.short if column.short and is_narrow else column.name
        table.add_column(name, justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        # Text, not markup: a name in square brackets is a name.
        line = zip(columns, row, strict=True)
        table.add_row(*(Text(text, style=column.styles.get(text, "")) for column, text in line))
    return table
