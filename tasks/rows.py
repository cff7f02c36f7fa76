"""The rows of a data set, one by one, each with its place: JSON lines, JSON, CSV, Parquet, or a name on the Hugging Face hub.

A row that cannot be read does not end the reading: it comes as a `BadRow`, so that all of them can be listed at once.
"""

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.base import BadRow
from tasks.hub import use_hub

Row = Mapping[str, Any]
MAX_REASON_CHARS = 160

FORMATS: Mapping[str, str] = {".jsonl": "json lines", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
"""Ending of a local file -> how it is read."""
_FORMATS = ", ".join(FORMATS)
_NOT_UTF_8 = re.compile("[\0\udc80-\udcff]")


def is_file(source: str) -> bool:
    """Whether a path means a local file, there or not, and no name on the hub."""
    # os.path: Path.exists() raises for a name that is too long, or lies in a folder that may not be looked into.
    return Path(source).suffix in FORMATS or source.startswith((".", "/", "~")) or os.path.exists(source)


def read_file(path: str) -> Iterator[tuple[str, Row | BadRow]]:
    """Yield (where, row) for each row of a local file; raises ValueError when there is no such file or no such format."""
    file = Path(path).expanduser()
    if not os.path.isfile(file):
        raise ValueError(f"option 'task.path': no file {path!r}; give a {_FORMATS} file, or a hub name like openai/gsm8k")
    match FORMATS.get(file.suffix):
        case "json lines":
            yield from _json_lines(file)
        case "json":
            yield from _json_array(file)
        case "csv":
            yield from _csv(file)
        case "parquet":
            yield from _parquet(file)
        case _:
            raise ValueError(f"option 'task.path': {path!r} must end in {_FORMATS}; rename it, or convert it")


def read_hub(
    name: str, configs: Sequence[str | None], split: str, *, is_large: bool
) -> Iterator[tuple[str, Row | BadRow]]:
    """Yield (where, row) of a split on the hub.

    configs: the data set's configurations, one after another; None for its default.
    is_large: streamed, so that nothing waits for the whole of it; a small set is kept in datasets' cache instead, and is there
        without a connection the next time.
    """
    unreachable = use_hub()
    import datasets  # takes seconds, and only some sources need it
    import datasets.exceptions

    number = 0
    for config in configs:
        try:
            rows = datasets.load_dataset(name, config, split=split, streaming=is_large)
            for row in rows:
                yield f"{name}, {split} row {number}", row
                number += 1
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            # Offline (ConnectionError, an OSError), no such data set (DatasetNotFoundError, a FileNotFoundError), no
            # such configuration or split (ValueError); httpx and the hub raise RuntimeErrors of their own.
            reason = unreachable or _reason(error)
            raise ValueError(
                f"option 'task.path': cannot load {name!r}, split {split!r}, from the hub ({reason}); connect this "
                f"machine, name a configuration and a split ({name}:CONFIG@SPLIT), or give a local file ({_FORMATS})"
            ) from error


def split_hub_name(place: str) -> tuple[str, str | None, str | None]:
    """Take name, configuration and split of a place on the hub apart.

    >>> split_hub_name("allenai/ai2_arc:ARC-Easy@test"), split_hub_name("openai/gsm8k")
    (('allenai/ai2_arc', 'ARC-Easy', 'test'), ('openai/gsm8k', None, None))
    """
    rest, _, split = place.partition("@")
    name, _, config = rest.partition(":")
    return name, config or None, split or None


def _json_lines(path: Path) -> Iterator[tuple[str, Row | BadRow]]:
    # By hand: datasets stops at the first line that is no JSON, and does not say which one it is.
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")  # Windows' editors begin with a mark
                if text.strip():
                    yield where, _checked(where, json.loads(text.strip()))
            except UnicodeDecodeError as error:
                yield where, BadRow(where=where, reason=f"not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8")
            except (ValueError, RecursionError) as error:  # JSONDecodeError; brackets without end
                yield where, BadRow(where=where, reason=f"not JSON ({_reason(error)}); write one object a line")


def _json_array(path: Path) -> Iterator[tuple[str, Row | BadRow]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"option 'task.path': {str(path)!r} is not JSON ({_reason(error)}); with a row on each line, name it .jsonl"
        ) from error
    if not isinstance(rows, list):
        raise ValueError(f"option 'task.path': {str(path)!r} must hold a list of objects, got {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        yield where, _checked(where, row)


def _csv(path: Path) -> Iterator[tuple[str, Row | BadRow]]:
    """Every value as text, "" where there is none; rows without any text are skipped, as empty lines are."""
    # By hand: pandas, which datasets asks, takes the first value of a row with too many for its name, rounds whole numbers
    # where another row has none, and takes an answer None or NA for a missing one.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:  # newline: those in quotes stay
        reader = csv.reader(file, strict=True)
        names: list[str] | None = None
        while True:
            where = f"{path}, line {reader.line_num + 1}"  # where the row begins: one with line breaks ends further down
            try:
                values = next(reader, None)
            except csv.Error as error:
                reason = f'not CSV ({_reason(error)}); write "" for a quote within quotes'
                if names is None:  # the next row is no header
                    raise ValueError(f"option 'task.path': {where}: {reason}") from error
                yield where, BadRow(where=where, reason=reason)
                continue
            if values is None:
                return
            if not any(value.strip() for value in values):
                continue
            if names is None:
                names = _column_names(path, values)
            else:
                yield where, _csv_row(where, names, values)


def _column_names(path: Path, values: Sequence[str]) -> list[str]:
    names = [value.strip() for value in values]
    for name in names:
        if not _is_utf8(name):
            raise ValueError(f"option 'task.path': {str(path)!r}: the first line is not text in UTF-8; save it as CSV UTF-8")
        if name and names.count(name) > 1:
            raise ValueError(f"option 'task.path': {str(path)!r} has two columns named {name!r}; rename one of them")
    return names


def _csv_row(where: str, names: Sequence[str], values: Sequence[str]) -> Row | BadRow:
    if len(values) != len(names):
        count, columns = len(values), ", ".join(names)[:100]
        reason = f"{count} values for the {len(names)} columns {columns}; put a value with a comma, or its line breaks, in quotes"
        return BadRow(where=where, reason=reason)
    if not all(map(_is_utf8, values)):
        return BadRow(where=where, reason="not UTF-8; save it as UTF-8")
    return dict(zip(names, values, strict=True))


def _is_utf8(text: str) -> bool:
    """Whether a text that was read with surrogateescape was UTF-8, and not UTF-16 with its zeros."""
    return _NOT_UTF_8.search(text) is None


def _parquet(path: Path) -> Iterator[tuple[str, Row | BadRow]]:
    import datasets
    import datasets.exceptions

    try:
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        for number, row in enumerate(rows, start=1):
            where = f"{path}, row {number}"
            yield where, _checked(where, row)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:  # a damaged file, mostly
        raise ValueError(f"option 'task.path': cannot read {str(path)!r} as parquet ({_reason(error)})") from error


def _checked(where: str, row: Any) -> Row | BadRow:
    return row if isinstance(row, Mapping) else BadRow(where=where, reason=f"not an object but {type(row).__name__}")


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:MAX_REASON_CHARS]
