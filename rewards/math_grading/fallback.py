"""sympy through math-verify, for mathematics that our own parser knows by name only: integrals, limits, set algebra."""

import logging
import re

# What is left for it is short. Its parser takes milliseconds for these sizes, and sympy's own work stays bounded: no
# numbers to take large powers or factorials of.
MAX_CHARS = 200
_TOO_LARGE = re.compile(r"[0-9]{5,}|!|\^\s*\{?\s*-?\s*[0-9]{2,}|\^[^^]*\^[^^]*\^|\*\*|[eE][0-9]")
# Its parser salvages what it can from text that it cannot read, so whatever may be no mathematics is kept from it.
_NOT_PLAIN = re.compile(r"[^\x20-\x7e]|\\text|\\math(?!bb)|\\operatorname|[A-Za-z]{4,}(?<!\\infty)|[#$@`\"?~]")
_COMMAND = re.compile(r"\\[A-Za-z]+")
MAX_EXPRESSION_NODES = 100


def sympy_equal(gold: str, answer: str) -> bool | None:
    """Return whether sympy finds both equal; None when the gold cannot be read.

    >>> sympy_equal(r"\\int_0^1 x dx", r"\\frac{1}{2}")
    True
    """
    if not _is_safe(gold):
        return None
    gold_reading = _parse(gold)
    if gold_reading is None:
        return None
    answer_reading = _parse(answer) if _is_safe(answer) else None
    if answer_reading is None:
        return False
    import math_verify

    # Both at 30 digits: the defaults of 6 decimals would make all tiny numbers equal.
    equal = math_verify.verify(
        [gold_reading],
        [answer_reading],
        float_rounding=25,
        numeric_precision=30,
        strict=True,
        timeout_seconds=None,
        raise_on_error=True,
    )
    return bool(equal)


def _is_safe(text: str) -> bool:
    return (
        len(text) <= MAX_CHARS and not _TOO_LARGE.search(text) and not _NOT_PLAIN.search(_COMMAND.sub(_keep_text_commands, text))
    )


def _keep_text_commands(command: re.Match[str]) -> str:
    return command[0] if command[0].startswith((r"\text", r"\math", r"\operatorname")) else " "


def _parse(text: str) -> object | None:
    """Return math-verify's one reading of the whole text as LaTeX, re-boxed; None when it has none or only a string."""
    # Imported here: sympy and its parsers take a second, which `import rewards` must not cost.
    import math_verify
    import sympy

    # It warns once that its timeout is off. It has to be: it is built on a signal, and ours is the process's end.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    boxed_latex = [math_verify.LatexExtractionConfig(boxed_match_priority=0)]
    readings = math_verify.parse(
        f"\\boxed{{{text}}}", boxed_latex, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True
    )
    reading = readings[0] if readings else None
    if not isinstance(reading, sympy.Basic | sympy.MatrixBase):
        return None
    return reading if sum(1 for _ in sympy.preorder_traversal(reading)) <= MAX_EXPRESSION_NODES else None
