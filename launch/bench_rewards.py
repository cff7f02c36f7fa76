"""Measure the math grader against math-verify on one core: python -m launch.bench_rewards [--cases FILE.jsonl]

Both judge the same completions, one after another in this process, our cache emptied before each. math-verify is given the
last \\boxed{} of what stands after the thinking, the gold boxed as well, and no timeout. What is right is
docs/math_grading.md's to say: of the generated kinds, math-verify takes some percentages and bare words for wrong.
Nothing is killed here: hostile cases are for `r1 rewards test`.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from r1.cli.reward_cases import Case, percentile, read_cases
from r1.errors import UserError
from rewards.math_answer import answers_equal, clear_cache, grade, warm_up
from rewards.math_grading.extraction import last_box

CASES_PER_KIND = 40
THINKING_CHARS = 1000
SEED = 0

Grader = Callable[[Case], bool | None]
Answers = tuple[str, str, str]
"""The gold answer, a right one in other writing, and a wrong one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, help="a file as for `r1 rewards test`, in place of the generated completions")
    path: Path | None = parser.parse_args().cases
    try:
        cases = make_cases(SEED, CASES_PER_KIND) if path is None else read_cases(path, "math_answer", None)
    except UserError as error:
        parser.error(str(error))
    source = f"{len(cases)} generated completions, seed {SEED}" if path is None else f"{len(cases)} cases of {path}"
    print(f"{source}; milliseconds for one, one core, no cache\n", flush=True)
    # The imports, and what both build when they meet a kind for the first time, belong to no case.
    warm_up()
    for case in make_cases(SEED + 1, 2):
        ours(case)
        math_verifys(case)
    # Ours first: what sympy still remembers of it can only help math-verify.
    print_table(cases, measure(cases, ours), measure(cases, math_verifys))


def ours(case: Case) -> bool | None:
    if case.is_bare_answer:
        return answers_equal(case.text, case.gold)
    return grade(case.text, case.gold, case.reference.get("answer_form", "any"))


def math_verifys(case: Case) -> bool:
    import math_verify

    # It warns once that its timeout is off.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    conclusion = case.text.rpartition("</think>")[2]
    answer = case.text if case.is_bare_answer else last_box(conclusion)
    gold = math_verify.parse(f"\\boxed{{{case.gold}}}", parsing_timeout=None)
    # Without a box it looks for the answer itself.
    found = math_verify.parse(conclusion if answer is None else f"\\boxed{{{answer}}}", parsing_timeout=None)
    return bool(math_verify.verify(gold, found, timeout_seconds=None))


def measure(cases: Sequence[Case], grader: Grader) -> list[tuple[float, bool]]:
    """Return for each case its milliseconds, and whether the verdict is the expected one."""
    measured = []
    for case in cases:
        clear_cache()
        start = time.perf_counter()
        verdict = grader(case)
        milliseconds = 1000 * (time.perf_counter() - start)
        measured.append((milliseconds, case.expected == "any" or verdict == case.expected))
    return measured


def print_table(cases: Sequence[Case], first: Sequence[tuple[float, bool]], second: Sequence[tuple[float, bool]]) -> None:
    columns = f"{'a second':>10}{'p50':>8}{'p99':>8}{'max':>8}{'right':>8}"
    print(f"{'':12}{'':>6} | {'rewards.math_answer':^42} | {'math-verify':^42} |")
    print(f"{'kind':12}{'cases':>6} | {columns} | {columns} | {'times as fast':>13}")
    kinds = sorted({case.kind for case in cases})
    for kind in [*kinds, None]:
        chosen = [i for i, case in enumerate(cases) if kind is None or case.kind == kind]
        ours_, theirs = [first[i] for i in chosen], [second[i] for i in chosen]
        ratio = sum(time for time, _ in theirs) / sum(time for time, _ in ours_)
        print(f"{'all' if kind is None else kind:12}{len(chosen):6} | {_numbers(ours_)} | {_numbers(theirs)} | {ratio:13.1f}")


def _numbers(measured: Sequence[tuple[float, bool]]) -> str:
    times = [milliseconds for milliseconds, _ in measured]
    p50, p99, longest = (percentile(times, share) for share in (0.5, 0.99, 1.0))
    right = sum(is_right for _, is_right in measured) / len(measured)
    return f"{1000 * len(times) / sum(times):10.0f}{p50:8.2f}{p99:8.2f}{longest:8.1f}{right:8.1%}"


def make_cases(seed: int, per_kind: int) -> list[Case]:
    """Return `per_kind` completions of every kind of answer, half of them wrong; no two share gold and answer.

    >>> case = make_cases(0, 2)[1]
    >>> case.kind, case.gold, case.text[-22:], case.expected
    ('int', '-6311', 'answer is \\\\boxed{-6312}.', 0.0)
    """
    cases = []
    for kind, make in KINDS.items():
        rng = Random(f"{seed} {kind}")
        seen: set[tuple[str, str]] = set()
        while len(seen) < per_kind:
            is_right = len(seen) % 2 == 0
            gold, right, wrong = make(rng)
            answer = right if is_right else wrong
            if (gold, answer) in seen:
                continue
            seen.add((gold, answer))
            text = _completion(rng, answer, is_tagged=len(seen) % 4 < 2)
            cases.append(
                Case(
                    case_id=f"{kind}-{len(seen)}",
                    kind=kind,
                    text=text,
                    is_bare_answer=False,
                    reference={"answer": gold},
                    expected=float(is_right),
                )
            )
    return cases


_PHRASES = ("so we get", "which gives", "Wait, let me check:", "that is", "and therefore", "Substituting,", "Now", "we have")


def _completion(rng: Random, answer: str, is_tagged: bool) -> str:
    """About 1,000 characters of thinking with numbers, boxes and formulas of its own, then the answer."""
    steps: list[str] = []
    while len("".join(steps)) < THINKING_CHARS:
        left, right = rng.randint(2, 99), rng.randint(2, 99)
        formulas = (f"{left} + {right} = {left + right}", f"$x = \\frac{{{left}}}{{{right}}}$", f"\\(y = {left}x + {right}\\)")
        steps.append(f"{rng.choice(_PHRASES)} {rng.choice(formulas)}.\n")
    ending = f"<answer>\\boxed{{{answer}}}</answer>" if is_tagged else f"Therefore the answer is \\boxed{{{answer}}}."
    return f"<think>{''.join(steps)}Is it \\boxed{{{rng.randint(2, 99)}}}?</think>\n{ending}"


def _int(rng: Random) -> Answers:
    n = rng.choice((-1, 1)) * rng.randint(1, 9999)
    return str(n), rng.choice((str(n), f"{n:,}", f"{n}.0")), str(n + rng.choice((-10, -1, 1, 10)))


def _fraction(rng: Random) -> Answers:
    a, b, k = rng.randint(1, 60), rng.randint(2, 60), rng.randint(2, 5)
    return f"\\frac{{{a}}}{{{b}}}", rng.choice((f"{a}/{b}", f"\\dfrac{{{k * a}}}{{{k * b}}}")), f"\\frac{{{a + 1}}}{{{b}}}"


def _decimal(rng: Random) -> Answers:
    n = rng.randint(1000, 99999)
    return f"{n / 1000:.3f}", rng.choice((f"{n / 1000:.4f}", f"\\frac{{{n}}}{{1000}}")), f"{(n + 20) / 1000:.3f}"


def _radical(rng: Random) -> Answers:
    k, m = rng.randint(2, 20), rng.choice((2, 3, 5, 6, 7, 10, 11, 13))
    right = rng.choice((f"\\sqrt{{{k * k * m}}}", f"\\frac{{{k * m}}}{{\\sqrt{{{m}}}}}"))
    return f"{k}\\sqrt{{{m}}}", right, f"\\sqrt{{{k * k * m + 1}}}"


def _expression(rng: Random) -> Answers:
    a, b, c = (rng.randint(2, 12) for _ in range(3))
    right = rng.choice((f"{c} + {b}x + {a}x^2", f"x({a}x+{b})+{c}", f"{a}(x^2+\\frac{{{b}}}{{{a}}}x)+{c}"))
    return f"{a}x^2+{b}x+{c}", right, f"{a}x^2+{b}x-{c}"


def _pair(rng: Random) -> tuple[int, int]:
    low = rng.randint(-30, 30)
    return low, low + rng.randint(1, 30)


def _tuple(rng: Random) -> Answers:
    a, b = _pair(rng)
    return f"({a},{b})", rng.choice((f"\\left({a}, {b}\\right)", f"( {a}, \\frac{{{2 * b}}}{{2}} )")), f"({b},{a})"


def _interval(rng: Random) -> Answers:
    a, b = _pair(rng)
    return f"[{a},{b})", f"\\left[{a}, {b}\\right)", rng.choice((f"({a},{b})", f"[{a},{b + 1})"))


def _set(rng: Random) -> Answers:
    a, b, c = rng.sample(range(-30, 30), 3)
    return f"\\{{{a},{b},{c}\\}}", f"\\{{{c}, {a}, {b}\\}}", f"\\{{{a},{b},{c + 60}\\}}"


def _matrix(rng: Random) -> Answers:
    a, b, c, d = rng.sample(range(-20, 20), 4)
    kind = rng.choice("pb")
    rows = f"{{{kind}matrix}} {a} & {b} \\\\ {c} & {d} \\end{{{kind}matrix}}"
    return (
        f"\\begin{{pmatrix}}{a}&{b}\\\\{c}&{d}\\end{{pmatrix}}",
        f"\\begin{rows}",
        f"\\begin{{pmatrix}}{a}&{c}\\\\{b}&{d}\\end{{pmatrix}}",
    )


def _equation(rng: Random) -> Answers:
    a, b = rng.randint(2, 20), rng.randint(1, 20)
    return f"y={a}x+{b}", rng.choice((f"{a}x-y+{b}=0", f"y = {b} + {a}x")), f"y={a}x+{b + 1}"


def _inequality(rng: Random) -> Answers:
    n = rng.randint(-99, 99)
    return f"x>{n}", rng.choice((f"{n} < x", f"x > {n}.0")), rng.choice((f"x \\geq {n}", f"x<{n}"))


def _unit(rng: Random) -> Answers:
    n, unit = rng.randint(1, 500), rng.choice(("cm", "km", "kg", "m", "hours"))
    right = rng.choice((str(n), f"{n}\\text{{{unit}}}", f"{n}\\ \\mathrm{{{unit}}}"))
    return f"{n} \\text{{ {unit}}}", right, f"{n + 1} \\text{{ {unit}}}"


def _percent(rng: Random) -> Answers:
    n = rng.randint(1, 999)
    return f"{n / 10}\\%", rng.choice((f"{n / 10}%", f"{n / 10:.2f}\\%", f"{n / 10}")), f"{n / 10 + 1:.1f}\\%"


def _currency(rng: Random) -> Answers:
    n = rng.randint(100, 99999)
    return f"\\${n / 100:.2f}", rng.choice((f"{n / 100:.2f}", f"\\${n / 100}")), f"\\${(n + 100) / 100:.2f}"


def _text(rng: Random) -> Answers:
    colour, other = rng.sample(("red", "blue", "green", "black", "white", "yellow", "purple", "grey"), 2)
    shape = rng.choice(("circle", "square", "triangle", "cube", "sphere", "cone", "hexagon"))
    right = rng.choice((f"{colour} {shape}", f"\\text{{{colour.title()} {shape}}}"))
    return f"\\text{{{colour} {shape}}}", right, f"\\text{{{other} {shape}}}"


def _choice(rng: Random) -> Answers:
    letter, other = rng.sample("ABCDE", 2)
    gold, answer = rng.choices(("{}", "({})", "\\text{{{}}}", "\\textbf{{({})}}"), k=2)
    return gold.format(letter), answer.format(letter), answer.format(other)


KINDS: dict[str, Callable[[Random], Answers]] = {
    "int": _int,
    "fraction": _fraction,
    "decimal": _decimal,
    "radical": _radical,
    "expression": _expression,
    "tuple": _tuple,
    "interval": _interval,
    "set": _set,
    "matrix": _matrix,
    "equation": _equation,
    "inequality": _inequality,
    "unit": _unit,
    "percent": _percent,
    "currency": _currency,
    "text": _text,
    "choice": _choice,
}

if __name__ == "__main__":
    main()
