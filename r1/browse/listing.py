"""A list as the screens show it: its items, which of them are shown, in what order, and where the cursor stands."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from r1.browse.filters import Filter


class Item(Protocol):
    """What every list can be filtered by and remembers its cursor by."""

    @property
    def key(self) -> Hashable:
        """Stays the same when the list is read again."""

    @property
    def reward(self) -> float | None:
        """Of the completion, or the mean of a group, a step, or a run's last step; None when there is none."""

    @property
    def num_errors(self) -> int | None:
        """Completions that could not be judged; None while that is not known."""

    @property
    def num_truncated(self) -> float | None:
        """Completions that were cut off at the token limit, or their share; None while that is not known."""


ItemT = TypeVar("ItemT", bound=Item)


@dataclass(frozen=True, kw_only=True, slots=True)
class Column(Generic[ItemT]):
    """One column of a list."""

    title: str
    value: Callable[[ItemT], float | str | None]
    """What is sorted by and, unless `show` says otherwise, shown."""
    spec: str = ""
    """Format of numbers, e.g. ".2f"."""
    show: Callable[[ItemT], str] | None = None
    """The cell's text, where it is not the formatted value."""
    is_text: bool = False
    """Left-aligned; numbers are right-aligned."""
    is_wide: bool = False
    """Text that takes the width that the others leave; at most one a list."""
    style: Callable[[ItemT], str] | None = None
    """The cell's rich style."""

    def cell(self, item: ItemT) -> str:
        """Return the cell's text as it is stored: the table makes it printable."""
        if self.show is not None:
            return self.show(item)
        value = self.value(item)
        return "-" if value is None else value if isinstance(value, str) else format(value, self.spec)


class Listing(Generic[ItemT]):
    """Items, filtered and sorted, with a cursor that follows its item when the list is filtered or read again."""

    def __init__(self) -> None:
        self.items: Sequence[ItemT] = ()
        self.columns: Sequence[Column[ItemT]] = ()
        self.shown: list[ItemT] = []
        """The items that pass the filter, in the order of the screen."""
        self.filter = Filter()
        self.sorted_by: str | None = None
        """A column's title; None: the items' own order."""
        self.is_reversed = False
        self.matches: set[Hashable] | None = None
        """Keys of the items in which the search found something; None when nothing is searched for."""
        self.index = 0
        """The cursor's place in `shown`; 0 when that is empty."""
        self.gap: int | None = None
        """How many shown items stand before the open one, where that is not shown itself; None: the cursor is on an item."""

    @property
    def current(self) -> ItemT | None:
        """The item under the cursor."""
        return self.shown[self.index] if self.shown else None

    def replace(self, items: Sequence[ItemT], columns: Sequence[Column[ItemT]]) -> None:
        """Take other items; the cursor stays on its item, or at its height when that is gone."""
        self.items, self.columns = items, columns
        if self.sorted_by not in {column.title for column in columns}:
            self.sorted_by, self.is_reversed = None, False
        self._arrange()

    def set_filter(self, filter_: Filter) -> None:
        """Show only what passes it."""
        self.filter = filter_
        self._arrange()

    def cycle_sort(self) -> None:
        """Sort by the next column: numbers from the highest, texts from A; after the last column the items' own order.

        The cursor goes to the top, as one sorts to see what comes first.
        """
        titles = [None, *(column.title for column in self.columns)]
        self.sorted_by = titles[(titles.index(self.sorted_by) + 1) % len(titles)]
        self.is_reversed = False
        self._arrange()
        self.move_to(0)

    def reverse(self) -> None:
        """Turn the order around, the cursor at the top; items without a value stay at the end."""
        self.is_reversed = not self.is_reversed
        self._arrange()
        self.move_to(0)

    def is_descending(self) -> bool:
        """Whether the highest value stands first."""
        return self._starts_high() != self.is_reversed

    def move(self, by: int) -> bool:
        """Move the cursor, at most to the ends; False when it stood there already."""
        if self.gap is None:
            return self.move_to(self.index + by)
        target = self.gap + by - (by > 0)
        if not 0 <= target < len(self.shown):
            return False
        self.index, self.gap = target, None
        return True

    def move_to(self, index: int) -> bool:
        """Put the cursor there, or at the nearer end; False when nothing changes."""
        index = max(0, min(index, len(self.shown) - 1))
        has_moved, self.index = index != self.index, index
        return has_moved

    def move_to_key(self, key: Hashable) -> bool:
        """Put the cursor on an item; False when it is not shown."""
        for index, item in enumerate(self.shown):
            if item.key == key:
                self.index = index
                return True
        return False

    def stand_at(self, key: Hashable) -> None:
        """Put the cursor on an item, or where it would stand if the filter let it pass: moves go from there."""
        self.gap = None
        if self.move_to_key(key):
            return
        ordered = self._in_order(self.items)
        place = next((index for index, item in enumerate(ordered) if item.key == key), len(ordered))
        gap = sum(map(self.filter.keeps, ordered[:place]))
        self.move_to(gap)
        self.gap = gap

    def move_to_match(self, direction: int, *, from_here: bool = False) -> bool:
        """Go to the next match (direction 1) or the previous one (-1), past the end to the other; False without one.

        from_here: the item under the cursor counts as well.
        """
        start = 0 if from_here else 1
        for distance in range(start, len(self.shown) + start):
            index = (self.index + direction * distance) % len(self.shown)
            if self.matches and self.shown[index].key in self.matches:
                self.index = index
                return True
        return False

    def _starts_high(self) -> bool:
        column = next((column for column in self.columns if column.title == self.sorted_by), None)
        known = (value for item in self.items if column is not None and (value := column.value(item)) is not None)
        return not isinstance(next(known, ""), str)

    def _arrange(self) -> None:
        current, self.gap = self.current, None
        self.shown = self._in_order([item for item in self.items if self.filter.keeps(item)])
        if current is None or not self.move_to_key(current.key):
            self.move_to(self.index)

    def _in_order(self, items: Sequence[ItemT]) -> list[ItemT]:
        column = next((column for column in self.columns if column.title == self.sorted_by), None)
        if column is None:
            return list(reversed(items)) if self.is_reversed else list(items)
        known = [item for item in items if column.value(item) is not None]
        unknown = [item for item in items if column.value(item) is None]
        # One column holds numbers or texts, never both.
        known.sort(key=column.value, reverse=self.is_descending())  # type: ignore[arg-type]
        return known + unknown
