"""A table in the terminal: coloured and cut to its width there, plain and whole when piped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
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


PLAIN_WIDTH = 10_000


def show(columns: Sequence[Column], rows: Sequence[Sequence[str]], console: Console | None = None) -> None:
    """Print it on stdout."""
    console = console or Console(highlight=False)
    width = console.width if console.is_terminal else PLAIN_WIDTH
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, padding=(0, 2, 0, 0))
    whole = sum(max([len(column.name), *(len(row[i]) for row in rows)]) + 2 for i, column in enumerate(columns))
    for column in columns:
        name = column.short if column.short and whole > width else column.name
        table.add_column(name, justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        cells = zip(columns, row, strict=True)
        # Text, not markup: a name in square brackets is a name.
        table.add_row(*(Text(text, style=column.styles.get(text, "")) for column, text in cells))
    console.print(table, width=width, crop=console.is_terminal)
