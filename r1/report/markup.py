"""HTML without holes: every text that goes into a page passes `escape`, unless it is `Html` that `element` has made."""

import html
import json
from collections.abc import Iterable
from typing import Any

from r1.cli.printing import printable

_HAS_NO_END = frozenset({"input"})


class Html(str):
    """Text that is markup already; only this module makes it."""

    __slots__ = ()


def escape(text: object) -> Html:
    r"""Show a text as it is: markup is spelled out, and so are characters that reverse, hide or control.

    >>> print(escape("</details><script>alert('\u202e')</script>"))
    &lt;/details&gt;&lt;script&gt;alert(&#x27;\u202e&#x27;)&lt;/script&gt;
    """
    return Html(html.escape(printable(str(text)), quote=True))


def element(name: str, *children: object, **attributes: object) -> Html:
    """Return an element; children that are not Html and all attribute values are escaped, children that are None left out.

    An attribute's trailing underscore is dropped and its others become hyphens; True stands for one without a value, None and
    False for none.

    >>> print(element("p", "1 < 2", element("b", "!"), class_="note", hidden=True, title=None))
    <p class="note" hidden>1 &lt; 2<b>!</b></p>
    """
    opened = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    if name in _HAS_NO_END:
        return Html(f"<{name}{opened}>")
    return Html(f"<{name}{opened}>{joined(children)}</{name}>")


def joined(parts: Iterable[object]) -> Html:
    """Put parts one behind the other."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts if part is not None))


def table(headings: Iterable[object], rows: Iterable[Iterable[object]], **attributes: object) -> Html:
    """A table whose rows begin with a heading, in a box that scrolls sideways where the page is too narrow for it."""
    head = element("thead", element("tr", *(element("th", heading, scope="col") for heading in headings)))
    body = element("tbody", *(element("tr", *_cells(row)) for row in rows))
    return element("div", element("table", head, body, **attributes), class_="scroll", tabindex="0")


def folded(summary: object, *children: object, key: str, **attributes: object) -> Html:
    """A part that opens on demand. key: by which the live page finds it again, to leave it as open as it was."""
    return element("details", element("summary", summary), *children, data_fold=key, **attributes)


def json_island(value: Any, name: str) -> Html:
    r"""Data for the page's scripts. Nothing in it can end the element, or begin another: no <, no >, nothing but ASCII.

    >>> print(json_island({"text": "</script>\u2028"}, "data"))
    <script type="application/json" id="data">{"text":"\u003c/script\u003e\u2028"}</script>
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{escape(name)}">{text}</script>')


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(value)}"'


def _cells(row: Iterable[object]) -> Iterable[Html]:
    for index, cell in enumerate(row):
        yield element("td", cell) if index else element("th", cell, scope="row")
