"""How the `r1` commands print: a model's text is shown in full, never read as markup or obeyed by the terminal."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

# rich is imported where it is used: `r1 --help` answers without it.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


_FILLERS = (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0)
_VARIATION_SELECTORS = (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
BLANKS = frozenset(map(chr, _FILLERS + _VARIATION_SELECTORS))
"""Letters, accents and symbols by their category, but nothing is drawn for them: Unicode's default-ignorables, empty Braille."""
_EMOJI_FORM = "\ufe0f"
"""Asks for the coloured form of the symbol before it."""
_EMOJI_LIKE = frozenset("‼⁉〰ℹ")
"""Punctuation and a letter that have such a form."""


def printable(text: str) -> str:
    r"""Replace every character that is not shown as itself by its code, but for line breaks and tabs.

    Escape sequences could repaint or retitle the terminal, and reversed or invisible characters hide what is there. U+FE0F stays
    where it makes an emoji of the symbol before it.

    >>> print(printable("19\x1b[2J\u202e\u3164\r\n"))
    19\x1b[2J\u202e\u3164\r
    <BLANKLINE>
    """
    return text if is_plain(text) else "".join(printable_characters(text))


def is_plain(text: str) -> bool:
    """Whether `printable` leaves a text alone, quickly: False may be a false alarm."""
    return text.replace("\n", "").isprintable() and (text.isascii() or BLANKS.isdisjoint(text))


def printable_characters(text: str) -> list[str]:
    """What `printable` makes of each character."""
    # Control, format, surrogate, private and unassigned characters; line and paragraph separators.
    hidden = ("C", "Zl", "Zp")
    return [
        ascii(character)[1:-1]
        if (unicodedata.category(character).startswith(hidden) and character not in "\n\t")
        or (character in BLANKS and not (character == _EMOJI_FORM and _is_emoji(text, index)))
        else character
        for index, character in enumerate(text)
    ]


def _is_emoji(text: str, index: int) -> bool:
    """Whether the character before `index` is a symbol that is drawn: not a letter, nor a digit but in a keycap."""
    symbol = text[index - 1 : index]
    if not symbol or symbol in BLANKS:
        return False
    if symbol.isascii():
        return symbol in "0123456789#*" and text[index + 1 : index + 2] == "\u20e3"
    return symbol in _EMOJI_LIKE or unicodedata.category(symbol) in ("So", "Sm")


def printable_line(text: str) -> str:
    r"""The same in one line: an error or a fault may quote what a person typed, or what a file holds.

    >>> print(printable_line("no such file: 'a\nb'"))
    no such file: 'a\nb'
    """
    return printable(text).replace("\n", "\\n")


def new_console() -> "Console":
    """Return a console that shows text as it is; a pipe gets lines without an edge."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no edge: rich would fold tables at 80 columns
    return console


def new_table(*headings: str) -> "Table":
    """Return a table with right-aligned columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for heading in text_cells(*headings):
        table.add_column(heading, justify="right", overflow="fold")
    return table


def print_lines_of_cells(headings: Sequence[object], rows: Iterable[Sequence[object]]) -> None:
    """Print a table with right-aligned columns, a line for each row whatever the terminal's width.

    For tables as long as a run: rich takes 2 ms for a row of ten cells, 2 s for 1,000 steps.
    """
    from rich.cells import cell_len

    lines = [[printable(str(cell)).replace("\n", " ") for cell in row] for row in (headings, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        print(" ", "   ".join(" " * (width - cell_len(cell)) + cell for cell, width in zip(line, widths, strict=True)))
        if number == 0:
            print("", "─" * (sum(widths) + 3 * len(widths) - 1))


def text_cells(*cells: object) -> "list[Text]":
    """Table cells that are shown as they are: rich would read a bare string as markup."""
    from rich.text import Text

    return [Text(printable(str(cell))) for cell in cells]


def format_number(value: float | None, spec: str = ".2f") -> str:
    """Return a number, or a dash where there is none."""
    return "-" if value is None else format(value, spec)


def print_line(console: "Console", line: str, style: str = "") -> None:
    """Print a line of a model's text, as `printable` leaves it."""
    from rich.text import Text

    console.print(Text(printable(line), style=style), soft_wrap=True)
