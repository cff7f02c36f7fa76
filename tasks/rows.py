"""The rows of a data set, one by one, each with its place: JSON lines, JSON, CSV, Parquet, or a name on the Hugging Face hub.

A row that cannot be read does not end the reading: it comes as a `BadRow`, so that all of them can be listed at once.
"""

import json
import os
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
        case None:
            raise ValueError(f"option 'task.path': {path!r} must end in {_FORMATS}; rename it, or convert it")
        case data_format:
            yield from _with_datasets(file, data_format)


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


def _with_datasets(path: Path, data_format: str) -> Iterator[tuple[str, Row | BadRow]]:
    import datasets
    import datasets.exceptions

    try:
        rows = datasets.load_dataset(data_format, data_files=str(path), split="train", streaming=True)
        for number, row in enumerate(rows, start=1):
            where = f"{path}, row {number}"
            yield where, _checked(where, row)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:  # a damaged file, mostly
        raise ValueError(f"option 'task.path': cannot read {str(path)!r} as {data_format} ({_reason(error)})") from error


def _checked(where: str, row: Any) -> Row | BadRow:
    return row if isinstance(row, Mapping) else BadRow(where=where, reason=f"not an object but {type(row).__name__}")


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:MAX_REASON_CHARS]
