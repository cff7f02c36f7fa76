"""sympy through math-verify, for golds that our own parser knows by name only: integrals, limits, derivatives.

In a process of its own for each question. sympy can work for minutes on an innocent integral, and swallows the exceptions
that a timer throws at it; a process can be killed, from any thread. It costs a second, and few golds need it.

    python -m rewards.math_grading.fallback GOLD ANSWER     prints unreadable, equal or different
"""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

DEADLINE_S = 3.0
MEMORY_BYTES = 2**30
# What is left for it is short, and has no numbers to take large powers or factorials of.
MAX_CHARS = 200
_TOO_LARGE = re.compile(r"[0-9]{5,}|!|\^\s*\{?\s*-?\s*[0-9]{2,}|\^[^^]*\^[^^]*\^|\*\*|[eE][0-9]")
# Its parser salvages what it can from text that it cannot read, so whatever may be no mathematics is kept from it.
_NOT_PLAIN = re.compile(r"[^\x20-\x7e]|\\text|\\math(?!bb)|\\operatorname|[A-Za-z]{4,}|[#$@`\"?~]")
_COMMAND = re.compile(r"\\[A-Za-z]+")
MAX_EXPRESSION_NODES = 100


def sympy_equal(gold: str, answer: str) -> bool | None:
    """Return whether sympy finds both equal; None when it cannot read the gold, False when it finds no end.

    >>> sympy_equal(r"\\int_0^1 x dx", r"\\frac{1}{2}")
    True
    """
    if not _is_safe(gold):
        return None
    if not _is_safe(answer):
        answer = "\\text{unsafe}"  # equal to nothing; the gold is still looked at
    root = str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-P", "-m", "rewards.math_grading.fallback", gold, answer]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE_S, env=environment, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return {"equal": True, "unreadable": None}.get(ended.stdout.strip(), False)


def main() -> None:
    """Answer one question; whatever goes wrong here ends the process with a traceback, which counts as different."""
    if sys.platform != "darwin":  # macOS refuses to lower RLIMIT_AS
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    gold, answer = (_parse(text) for text in sys.argv[1:3])
    if gold is None:
        print("unreadable")
    elif answer is not None and _is_equal(gold, answer):
        print("equal")
    else:
        print("different")


def _is_safe(text: str) -> bool:
    return (
        len(text) <= MAX_CHARS and not _TOO_LARGE.search(text) and not _NOT_PLAIN.search(_COMMAND.sub(_keep_text_commands, text))
    )


def _keep_text_commands(command: re.Match[str]) -> str:
    return command[0] if command[0].startswith((r"\text", r"\math", r"\operatorname")) else " "


def _is_equal(gold: object, answer: object) -> bool:
    import math_verify

    # Both at 30 digits: the defaults of 6 decimals would make all tiny numbers equal.
    return bool(
        math_verify.verify(
            [gold], [answer], float_rounding=25, numeric_precision=30, strict=True, timeout_seconds=None, raise_on_error=True
        )
    )


def _parse(text: str) -> object | None:
    """Return math-verify's one reading of the whole text as LaTeX, re-boxed; None when it has none or only a string."""
    import math_verify
    import sympy

    # It warns once that its timeout is off: the parent's deadline stands in for it.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    boxed_latex = [math_verify.LatexExtractionConfig(boxed_match_priority=0)]
    readings = math_verify.parse(
        f"\\boxed{{{text}}}", boxed_latex, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True
    )
    reading = readings[0] if readings else None
    if not isinstance(reading, sympy.Basic | sympy.MatrixBase):
        return None
    return reading if sum(1 for _ in sympy.preorder_traversal(reading)) <= MAX_EXPRESSION_NODES else None


if __name__ == "__main__":
    main()
