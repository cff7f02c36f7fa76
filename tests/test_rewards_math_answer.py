import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from rewards.math_answer import answers_equal, explain, grade, math_answer

# How answers are compared is in tests/math_rows_*.py; this file is about the functions around it.


@pytest.mark.parametrize(
    ("completion", "reference", "expected"),
    [
        ("<think>48+24</think><answer>72</answer>", {"answer": "72"}, 1.0),
        ("<think>48+24</think><answer>71</answer>", {"answer": "72"}, 0.0),
        ("<think>48+24</think><answer>72</answer>", {"answer": ""}, None),
        ("<think>48+24</think><answer>72</answer>", {"answer": 72}, 1.0),  # data sets also hold numbers
        ("It is \\boxed{72}.", {"answer": "72", "answer_form": "box"}, 1.0),
        ("It is \\boxed{72}.", {"answer": "72", "answer_form": "tags"}, 0.0),
        ("#### 72", {"answer": "72", "answer_form": "hash"}, 1.0),
    ],
)
def test_math_answer_turns_the_verdict_into_a_reward(completion, reference, expected):
    assert math_answer(completion, reference) == expected


def test_an_unknown_form_is_an_error_and_not_a_zero():
    with pytest.raises(ValueError, match="no answer form 'boxed'; choose one of any, tags, box, hash, line"):
        grade("\\boxed{72}", "72", "boxed")


@pytest.mark.parametrize(
    ("completion", "gold", "answer", "is_equal", "path"),
    [
        ("<answer>72.0</answer>", "72", "72.0", True, "number"),
        ("<answer>\\text{Even}</answer>", "Even", "\\text{Even}", True, "text"),
        ("<answer>B) 42</answer>", "B", "B) 42", True, "choice"),
        ("<answer>(2, 1)</answer>", "(1, 2)", "(2, 1)", False, "structure"),
        ("<answer>\\frac13</answer>", "\\int_0^1 x^2 dx", "\\frac13", True, "sympy"),
        ("<answer>9^{9^{9^9}}</answer>", "x", "9^{9^{9^9}}", False, "refused: a power that is too large"),
        ("<answer>9^{9^{9^9}}</answer>", "9^{9^{9^9}}", "9^{9^{9^9}}", True, "text"),
        ("<answer>9^{9^{9^8}}</answer>", "9^{9^{9^9}}", "9^{9^{9^8}}", None, "the gold: a power that is too large"),
        ("seventy-two", "72", None, False, "no answer"),
        ("seventy-two", "1/0", None, None, "the gold is undefined: a division by zero"),
    ],
)
def test_explain_says_what_was_extracted_and_which_path_decided(completion, gold, answer, is_equal, path):
    verdict = explain(completion, gold)
    assert (verdict.answer, verdict.is_equal, verdict.path) == (answer, is_equal, path)


@pytest.mark.slow
def test_many_threads_agree_with_one():
    # The precision of mpmath's global context would be shared: a thread that computes with 30 digits would spoil the 150
    # of another.
    pairs = [(f"\\sqrt{{{n}}}+{n}\\pi", f"{n}\\pi+{n}^{{1/2}}") for n in range(2, 60)]
    pairs += [(f"\\sqrt{{{n}}}+{n}\\pi+10^{{-40}}", f"{n}\\pi+\\sqrt{{{n}}}") for n in range(2, 60)]
    with ThreadPoolExecutor(max_workers=8) as threads:
        verdicts = list(threads.map(lambda pair: answers_equal(*pair), pairs))
    assert verdicts == [True] * 58 + [False] * 58


@pytest.mark.slow
def test_no_signal_is_set_so_that_it_works_outside_the_main_thread():
    # math-verify's own timeouts raise "signal only works in main thread" here; the integral is left to it.
    code = (
        "import threading; from rewards.math_answer import answers_equal; values = []\n"
        "judge = lambda: values.append(answers_equal('1/3', r'\\int_0^1 x^2 dx'))\n"
        "thread = threading.Thread(target=judge); thread.start(); thread.join(); print(values)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (finished.stdout, finished.stderr) == ("[True]\n", "")


def test_importing_the_rewards_imports_neither_sympy_nor_mpmath():
    code = "import rewards, sys; print([name for name in ('sympy', 'math_verify', 'mpmath') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    "completion",
    [
        "<answer>" + " " * 100_000,
        "<answer>72" + " " * 100_000 + "</answer>",
        "\\boxed{" * 20_000,
        "answer" + " " * 100_000,
        "Answer: " + "*" * 100_000,
        "#" * 100_000,
        "<think>" * 20_000,
        "</answer>" * 20_000,
        "<answer>" + "a, " * 300 + "b</answer>",
        "<answer>" + "So the " * 140 + "72</answer>",
        "<answer>" + "1" * 999 + "</answer>",
        "<answer>" + "\\frac" * 190 + "</answer>",
        "<answer>" + "-" * 999 + "1</answer>",
        "<answer>" + "9^" * 490 + "9</answer>",
        "<answer>" + "\\sin -" * 160 + "1</answer>",
        "<answer>" + "+1" * 190 + "</answer>",
        "<answer>" + "{,}" * 300 + "</answer>",
    ],
)
@pytest.mark.timeout(5)
@pytest.mark.parametrize("form", ["any", "tags", "box", "hash", "line"])
def test_long_and_repeated_text_neither_hangs_nor_raises(completion, form):
    assert grade(completion, "72", form) in (True, False)
