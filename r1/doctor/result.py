"""What a check says."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "red"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One line of the doctor's report.

    >>> ok("memory", "20 GiB free").verdict
    'ok'
    """

    check: str
    """e.g. "memory"."""
    verdict: Verdict
    """red: a run cannot work, or not rightly; warning: it may, and somebody should look."""
    line: str
    """What was found; of what is not ok also the rule and the remedy."""
    node: str = ""
    """Whose it is; "" of what concerns no single machine."""


def ok(check: str, line: str) -> Result:
    return Result(check=check, verdict="ok", line=line)


def warning(check: str, line: str) -> Result:
    return Result(check=check, verdict="warning", line=line)


def red(check: str, line: str) -> Result:
    return Result(check=check, verdict="red", line=line)
