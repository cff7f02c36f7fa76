"""Judging single texts for `r1 rewards`: the rows of a case file, read, judged one by one in a killable child, and counted."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from r1.config import ScoringConfig
from r1.errors import UserError
from r1.scoring import RewardPool
from rewards.base import AnswerForm
from rewards.math_answer import answers_equal, explain
from rewards.math_answer import warm_up as warm_up  # the scoring child calls it, as this file's own

ANSWER_ROW = f"{__file__}:answer_row"
EXPLAINED = f"{__file__}:explained"
"""Reward functions of this file as the pool takes them: they run in its child."""

MAX_EXPECTED = 1e300
"""What a float can hold, and no reward needs."""

Verdict = Literal["right", "false positive", "false negative", "wrong None", "error", "timeout"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One row of a case file."""

    case_id: str
    """The row's `id`, or "line N"."""
    kind: str
    """The row's `kind` or `cat`; "" for none."""
    text: str
    """A completion, or a bare answer."""
    is_bare_answer: bool
    reference: Mapping[str, Any]
    expected: float | Literal["any"] | None
    """None: that it cannot be judged. "any": only that it is judged, in time and without an error."""

    @property
    def gold(self) -> str:
        """What to show as the right answer."""
        return str(self.reference["answer"]) if "answer" in self.reference else json.dumps(self.reference, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of a case."""

    case: Case
    value: float | None
    error: str | None
    is_timeout: bool
    seconds: float
    """From the request to the answer: the reward function and about 0.1 ms between the processes."""

    @property
    def verdict(self) -> Verdict:
        """Higher than expected is a false positive, lower a false negative; None is neither."""
        expected = self.case.expected
        if self.error is not None:
            return "timeout" if self.is_timeout else "error"
        if expected == "any":
            return "right"
        if self.value is None or expected is None:
            return "right" if self.value is expected else "wrong None"
        # A file's 0.333333 stands for 1/3.
        if math.isclose(self.value, expected, rel_tol=1e-6, abs_tol=1e-6):
            return "right"
        return "false positive" if self.value > expected else "false negative"


def read_cases(path: Path, reward: str, form: AnswerForm | None) -> list[Case]:
    """Read all rows of a JSON-lines file before any is judged; the first broken one is a `UserError` with its line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 text ({error.reason})"
        raise UserError(f"case file {str(path)!r} cannot be read: {reason}; give a JSON-lines file") from error
    cases = [_read_case(line, f"{path}, line {i}", i, reward, form) for i, line in enumerate(lines, start=1) if line.strip()]
    if not cases:
        raise UserError(f"case file {str(path)!r} has no rows; write one JSON object a line with gold, completion and expected")
    return cases


def judge_cases(cases: Sequence[Case], reward: str, deadline_s: float) -> Iterator[Outcome]:
    """Judge one case after another with one child, and time each."""
    config = ScoringConfig(deadline_s=deadline_s)
    with ExitStack() as stack:
        pools: dict[str, RewardPool] = {}
        for case in cases:
            spec = ANSWER_ROW if case.is_bare_answer else reward
            if spec not in pools:
                pools[spec] = stack.enter_context(RewardPool({spec: 1.0}, config, num_children=1))
            yield _judge(pools[spec], case)


def with_form(reference: Mapping[str, Any], form: AnswerForm | None) -> dict[str, Any]:
    """Add the form that the answer is expected in, when one is given, where reward functions look for it."""
    return dict(reference) if form is None else {**reference, "answer_form": form}


def answer_row(text: str, reference: Mapping[str, Any]) -> float | None:
    """Judge a bare answer, as a reward function. (It could not be boxed: its braces need not balance.)

    >>> answer_row("0.5", {"answer": "1/2"}), answer_row("0.5}", {"answer": "1/2"})
    (1.0, 0.0)
    """
    is_equal = answers_equal(text, str(reference["answer"]))
    return None if is_equal is None else float(is_equal)


def explained(completion: str, reference: Mapping[str, Any]) -> float | None:
    """Judge as math_answer does, and write the file `reference["report"]`: what was extracted, what decided, the time.

    A reward function can return nothing but its value. As one, this runs under the pool's deadline and memory limit.
    """
    start = time.perf_counter()
    verdict = explain(completion, str(reference["answer"]), reference.get("answer_form", "any"))
    seconds = time.perf_counter() - start
    report = {"answer": verdict.answer, "path": verdict.path, "seconds": seconds}
    Path(reference["report"]).write_text(json.dumps(report), encoding="utf-8")
    return None if verdict.is_equal is None else float(verdict.is_equal)


def count_verdicts(outcomes: Iterable[Outcome]) -> dict[Verdict, int]:
    """Every verdict -> how many outcomes have it."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    return {verdict: counts[verdict] for verdict in get_args(Verdict)}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed.

    >>> percentile([4, 1, 3, 2], 0.5), percentile([4, 1, 3, 2], 0.99)
    (2, 4)
    """
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _judge(pool: RewardPool, case: Case) -> Outcome:
    num_restarts = pool.num_restarts
    start = time.perf_counter()
    [score] = pool.score_texts([(case.text, case.reference)])
    seconds = time.perf_counter() - start
    is_timeout = "timeout" in score.failures.values()
    if pool.num_restarts > num_restarts:
        # Waits for the new child: its start, about a second, is not the next case's time.
        pool.score_texts([("", case.reference)])
    return Outcome(case=case, value=score.reward, error=score.error, is_timeout=is_timeout, seconds=seconds)


def _read_case(line: str, place: str, number: int, reward: str, form: AnswerForm | None) -> Case:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({error}); write one JSON object a line") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}: a row is a JSON object, got {_short(row)}; give it gold, completion and expected")
    texts = [key for key in ("completion", "answer") if key in row]
    if len(texts) != 1 or not isinstance(row[texts[0]], str):
        raise UserError(f"{place}: a row has one text, 'completion' or 'answer', got {texts or 'none'}; leave one string of them")
    is_bare_answer = texts == ["answer"]
    if is_bare_answer and reward != "math_answer":
        raise UserError(f"{place}: a bare 'answer' is for math_answer alone, got --reward {reward}; give a 'completion'")
    return Case(
        case_id=str(row.get("id", f"line {number}")),
        kind=str(row.get("kind", row.get("cat", ""))),
        text=row[texts[0]],
        is_bare_answer=is_bare_answer,
        reference=_reference(row, place, form),
        expected=_expected(row, place),
    )


def _reference(row: Mapping[str, Any], place: str, form: AnswerForm | None) -> dict[str, Any]:
    reference = row.get("reference", {})
    if not isinstance(reference, dict):
        raise UserError(f"{place}: 'reference' is a JSON object, got {_short(reference)}; for a bare answer use 'gold'")
    if "gold" not in row and "reference" not in row:
        raise UserError(f"{place}: nothing to compare with; add 'gold', or a 'reference' object")
    if "gold" in row and (not isinstance(row["gold"], str | int | float) or isinstance(row["gold"], bool)):
        raise UserError(f"{place}: 'gold' is a string or a number, got {_short(row['gold'])}; put anything else into 'reference'")
    gold = {"answer": str(row["gold"])} if "gold" in row else {}
    row_form = row.get("form", form)
    if row_form is not None and row_form not in get_args(AnswerForm):
        raise UserError(f"{place}: 'form' is one of {', '.join(get_args(AnswerForm))}, got {_short(row_form)}; mend it")
    return with_form({**reference, **gold}, row_form)


def _expected(row: Mapping[str, Any], place: str) -> float | Literal["any"] | None:
    if "expected" not in row:
        raise UserError(f"{place}: no 'expected'; add true, false, null, a number or 'any'")
    expected = row["expected"]
    if expected is None:
        return None
    if expected == "any":
        return "any"
    if not isinstance(expected, bool | int | float) or not abs(expected) <= MAX_EXPECTED:  # NaN is not <= anything
        raise UserError(f"{place}: 'expected' is true, false, null, a number or 'any', got {_short(expected)}; mend it")
    return float(expected)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
