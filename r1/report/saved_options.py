"""The options of a run as this r1 understands them, and those that it does not know: reports are made of old runs as well."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import BaseModel

from r1.config import RunConfig, check_config
from r1.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedOptions:
    """What config.json says."""

    config: RunConfig | None = None
    """None where it cannot be read."""
    unknown: Mapping[str, Any] = field(default_factory=dict)
    """Dotted name -> value of each option that only the r1 that wrote it knows."""
    problem: str = ""
    """Why it cannot be read."""


def read_saved_options(run_dir: Path) -> SavedOptions:
    """Read RUN/config.json."""
    path = run_dir / "config.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SavedOptions(problem="the run folder has no config.json")
    except ValueError as error:
        return SavedOptions(problem=f"config.json is damaged: {error}")
    if not isinstance(tree, Mapping):
        return SavedOptions(problem="config.json is damaged: it is no object")
    unknown: dict[str, Any] = {}
    known = _known_part(tree, RunConfig, "", unknown)
    try:
        return SavedOptions(config=check_config(known), unknown=unknown)
    except UserError as error:  # a value that this r1 does not allow any more; the figures need none
        return SavedOptions(problem=f"config.json was written by another r1: {error}", unknown=unknown)


def _known_part(tree: Mapping[str, Any], section: type[BaseModel], prefix: str, unknown: dict[str, Any]) -> dict[str, Any]:
    """The tree without what `section` has no field for, which goes into `unknown`."""
    known: dict[str, Any] = {}
    for name, value in tree.items():
        if name not in section.model_fields:
            unknown[f"{prefix}{name}"] = value
            continue
        kind = section.model_fields[name].annotation
        if _is_section(kind) and isinstance(value, Mapping):
            value = _known_part(value, kind, f"{prefix}{name}.", unknown)
        known[name] = value
    return known


def _is_section(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
