"""A configuration as text: all options as TOML that loads again, and what two configurations have otherwise."""

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from r1 import config as config_module
from r1.cli.printing import BLANKS
from r1.config import RunConfig, check_config, load_config
from r1.config_overrides import apply_overrides
from r1.errors import UserError
from r1.storage import is_url

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_COMMENT_COLUMN = 44


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a TOML file, or the configuration that a run was written with, by its folder or URL."""
    if is_url(path):
        from r1.fetched_run import local_config  # which reads configurations itself

        return saved_config(local_config(str(path)), overrides)
    path = Path(path)
    return saved_config(path, overrides) if path.is_dir() else load_config(path, overrides)


def saved_config(
    run_dir: str | Path, overrides: Sequence[str] = (), *, option: str = "RUN", file: str = "config.json"
) -> RunConfig:
    """Read the configuration of a run folder. option: what named the folder, for errors."""
    saved = Path(run_dir) / file
    if not saved.is_file():
        raise UserError(
            f"option '{option}': {str(run_dir)!r} is not a run folder, it has no {file}; give a folder that a run wrote"
        )
    try:
        tree = json.loads(saved.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"option '{option}': {str(saved)!r} is damaged: {error}; give another run folder") from error
    return check_config(apply_overrides(tree, overrides))


def option_values(config: RunConfig) -> dict[str, Any]:
    """Every option by its dotted name, in the order of r1/config.py; a table such as task.rewards is one value."""
    return dict(_leaves(config))


def default_values() -> dict[str, Any]:
    """The default of every option that has one, by its dotted name."""
    return dict(_defaults(RunConfig))


def option_docs() -> dict[str, str]:
    """What r1/config.py says of an option, in one line, by its dotted name; some have no words of their own."""
    classes = {node.name: node for node in ast.parse(inspect.getsource(config_module)).body if isinstance(node, ast.ClassDef)}
    return dict(_docs(classes, RunConfig))


def config_lines(config: RunConfig, *, docs: bool = False) -> list[str]:
    """The configuration as TOML: each value with "default", or with the default that it replaces.

    What is unset has no value in TOML and stands in a comment. docs: each option's line of r1/config.py above it.
    """
    defaults, meanings = default_values(), option_docs() if docs else {}
    lines, section = [], ""
    # A TOML file has its tables last.
    for name, value in sorted(option_values(config).items(), key=lambda item: "." in item[0]):
        table, _, option = name.rpartition(".")
        if table != section:
            section = table
            lines += ["", f"[{table}]"]
        if name in meanings:
            lines.append(f"# {meanings[name]}")
        lines.append(f"{_assignment(option, value):<{_COMMENT_COLUMN}} {_remark(value, name, defaults)}".rstrip())
    return lines


def differing_options(first: RunConfig, second: RunConfig) -> list[tuple[str, str, str]]:
    """(option, value of the first, value of the second) where they differ."""
    ours, theirs = option_values(first), option_values(second)
    return [(name, toml_value(ours[name]), toml_value(theirs[name])) for name in ours if ours[name] != theirs[name]]


def toml_value(value: Any) -> str:
    """A value as it stands in a TOML file.

    >>> print(toml_value({"math_answer": 1.0, "my.py:f": 1e-06}), toml_value(True), toml_value(None))
    { math_answer = 1.0, "my.py:f" = 1e-06 } true unset
    """
    if value is None:
        return "unset"
    if isinstance(value, BaseModel):  # a task of task.mix; TOML has no null
        value = value.model_dump(exclude_none=True)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(name)} = {toml_value(item)}" for name, item in value.items())
        return f"{{ {inner} }}"
    # JSON's booleans, numbers and escapes are TOML's too; what is not shown as itself goes out as its code.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(
        character if character.isprintable() and character not in BLANKS else f"\\U{ord(character):08x}" for character in text
    )


def _leaves(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _defaults(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        if _is_section(field.annotation):
            yield from _defaults(field.annotation, f"{prefix}{name}.")
        elif field.default is not PydanticUndefined:
            yield f"{prefix}{name}", field.default


def _docs(classes: Mapping[str, ast.ClassDef], section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    body = classes[section.__name__].body
    texts = {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
    for name, field in section.model_fields.items():
        if _is_section(field.annotation):
            yield from _docs(classes, field.annotation, f"{prefix}{name}.")
        elif name in texts:
            yield f"{prefix}{name}", texts[name]


def _is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _assignment(option: str, value: Any) -> str:
    return f"# {option} is unset" if value is None else f"{option} = {toml_value(value)}"


def _remark(value: Any, name: str, defaults: Mapping[str, Any]) -> str:
    if name not in defaults:
        return ""
    return "# default" if value == defaults[name] else f"# default: {toml_value(defaults[name])}"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else toml_value(name)
