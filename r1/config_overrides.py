"""Options as a person writes them, in a nested mapping: overrides of the command line, presets spelled out."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from r1.errors import UserError
from r1.presets import PRESETS

# Dots and equals signs between quotes belong to a name: task.rewards."my/judge.py:score"=1.0.
_KEY = re.compile(r"""((?:"[^"]*"|'[^']*'|[^="'])*)(=)(.*)""", re.DOTALL)
_PART = re.compile(r"""(?:"[^"]*"|'[^']*'|[^."'])+|(?<=\.)(?=\.)""")


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Set dotted options such as `learner.learning_rate=1e-4` in a nested mapping, in place, and return it."""
    for override in overrides:
        _apply_override(tree, override)
    return tree


def with_preset(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Spell out `algorithm = "dr_grpo"`, and `preset = "dr_grpo"` in the table `algorithm`."""
    algorithm = tree.get("algorithm")
    options = {"preset": algorithm} if isinstance(algorithm, str) else dict(algorithm) if isinstance(algorithm, Mapping) else {}
    name = options.pop("preset", None)
    if name is None:
        return tree
    if name not in PRESETS:
        raise UserError(f"option 'algorithm': no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return {**tree, "algorithm": {**PRESETS[name], **options}}


def _apply_override(tree: dict[str, Any], override: str) -> None:
    parts = _KEY.fullmatch(override)
    if parts is None or not parts[1]:
        raise UserError(f"override {override!r} must look like section.option=value, e.g. learner.learning_rate=1e-4")
    key, _, text = parts.groups()
    *sections, option = (part.strip("\"'") for part in _PART.findall(key.strip()))  # task.mix."math:3-5".weight, as in the file
    for section in sections:
        if section == "algorithm" and isinstance(tree.get(section), str):
            tree[section] = {"preset": tree[section]}
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UserError(f"override {override!r}: {section!r} is an option, not a section; see r1/config.py for all options")
    tree[option] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    """A TOML value where it is one, otherwise the bare string: paths and names need no quotes."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    # A line break would smuggle further keys in.
    return parsed["value"] if len(parsed) == 1 else text
