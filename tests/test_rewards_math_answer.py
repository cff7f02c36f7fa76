import subprocess
import sys

import pytest

from rewards.math_answer import math_answer

# (completion, gold, expected, why)
CASES = [
    ("<think>48/2=24, 48+24=72</think><answer>72</answer>", "72", 1.0, "one answer block after the thinking"),
    ("<answer>72</answer>", "72", 1.0, "whether there is any thinking is not judged here"),
    ("<think>a</think>\n<answer> \\boxed{72} </answer>\n", "72", 1.0, "a box inside the block"),
    ("<think>a</think>It is \\boxed{72}.", "72", 1.0, "a box without answer tags"),
    ("so \\boxed{71}, no: \\boxed{72}", "72", 1.0, "the last box is meant"),
    ("so \\boxed{72}, no: \\boxed{71}", "72", 0.0, "the last box is meant"),
    ("\\boxed{\\frac{144}{2}}", "72", 1.0, "braces inside the box balance"),
    ("\\boxed{72", "72", 0.0, "a box that is never closed"),
    ("The answer is 72", "72", 0.0, "a bare number in the text is no final answer"),
    ("#### 72", "72", 0.0, "the data set's own marker is not asked for"),
    ("", "72", 0.0, "nothing at all"),
    ("<think><answer>72</answer></think>", "72", 0.0, "an answer inside the thinking"),
    ("<think>\\boxed{72}</think> done", "72", 0.0, "a box inside the thinking"),
    ("<answer>71</answer><answer>72</answer>", "72", 0.0, "two answers are hedging"),
    ("<answer>71</think><answer>72</answer>", "72", 0.0, "two opening tags"),
    ("<answer>72", "72", 0.0, "a block that is never closed"),
    ("</answer><answer>72", "72", 0.0, "closed before it is opened"),
    ("<answer>72</answer> or 71", "72", 0.0, "text behind the block"),
    ("<answer></answer>", "72", 0.0, "an empty block"),
    ("<answer>$72</answer>", "72", 1.0, "currency"),
    ("<answer>-$5.50</answer>", "-5.5", 1.0, "currency behind the sign, trailing zero"),
    ("<answer>1,080</answer>", "1080", 1.0, "thousands separated by commas"),
    ("<answer>$10{,}080$.</answer>", "10080", 1.0, "thousands and dollars of LaTeX, full stop"),
    ("<answer>1,08</answer>", "108", 0.0, "a comma that separates no thousands"),
    ("<answer>72.0</answer>", "72", 1.0, "the same number as a decimal"),
    ("<answer>72.01</answer>", "72", 0.0, "numbers are compared exactly"),
    ("<answer>7٢</answer>", "72", 0.0, "digits of another script"),
    ("<answer>x = 72</answer>", "72", 1.0, "a name for the result"),
    ("<answer>71 = 72</answer>", "72", 0.0, "an equation of two numbers is not its right side"),
    ("<answer>71, 72</answer>", "72", 0.0, "two numbers"),
    ("<answer>71 or 72</answer>", "72", 0.0, "two numbers"),
    ("<answer>70 2</answer>", "72", 0.0, "two numbers side by side are not their sum"),
    ("<answer>\\pm 72</answer>", "72", 0.0, "two numbers"),
    ("<answer>0.5</answer>", "\\frac{1}{2}", 1.0, "one value, two notations"),
    ("<answer>1/2</answer>", "0.5", 1.0, "one value, two notations"),
    ("<answer>0.33</answer>", "1/3", 0.0, "a rounded third is not a third"),
    ("<answer>1 + x</answer>", "x+1", 1.0, "equal as expressions"),
    ("<answer>y + 1</answer>", "x+1", 0.0, "another variable"),
    ("<answer>(2,1)</answer>", "(1,2)", 0.0, "order counts in a pair"),
    ("<answer>9^9^9</answer>", "72", 0.0, "a tower of powers is not computed"),
    ("<answer>9^{9^{9}}</answer>", "72", 0.0, "a tower of powers is not computed"),
    ("<answer>((10^{999})^{999})^{999}</answer>", "72", 0.0, "a product of exponents above the bound"),
    ("<answer>99999!</answer>", "72", 0.0, "a large factorial is not computed"),
    ("<answer>" + "(" * 200 + "</answer>", "72", 0.0, "brackets that slow the parser down"),
    ("<answer>" + "9" * 10_000 + "</answer>", "72", 0.0, "too many digits"),
    ("<answer>72\0</answer>", "72", 0.0, "a NUL"),
    ("<answer>__import__('os').abort()</answer>", "72", 0.0, "code is not run"),
    ("<answer>72</answer>", "", None, "no gold answer"),
    ("<answer>72</answer>", "\\frac{", None, "an unreadable gold answer"),
    ("no answer", "\\frac{", None, "an unreadable gold answer, whatever the completion"),
]


@pytest.mark.timeout(10)
@pytest.mark.parametrize(("completion", "gold", "expected", "why"), CASES)
def test_a_completion_is_judged_by_its_final_answer_alone(completion, gold, expected, why):
    assert math_answer(completion, {"answer": gold}) == expected, why


def test_no_signal_is_set_so_that_it_works_outside_the_main_thread():
    # math-verify's own timeouts raise "signal only works in main thread" here.
    code = (
        "import threading; from rewards.math_answer import math_answer; values = []\n"
        "judge = lambda: values.append(math_answer('\\\\boxed{1/2}', {'answer': '0.5'}))\n"
        "thread = threading.Thread(target=judge); thread.start(); thread.join(); print(values)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (finished.stdout, finished.stderr) == ("[1.0]\n", "")


def test_importing_the_rewards_does_not_import_the_parser():
    code = "import rewards, sys; print([name for name in ('sympy', 'math_verify') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
