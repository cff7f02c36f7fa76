"""What holds for all answers, whatever they are: tried on generated ones."""

from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewards.math_answer import answers_equal, grade

pytestmark = pytest.mark.slow

# The same examples on each run, and no deadline: speed is for the benchmark.
settings.register_profile("r1", deadline=None, derandomize=True)
settings.load_profile("r1")

integers = st.integers(-10_000, 10_000).map(str)
decimals = st.decimals(-1000, 1000, places=2).map(lambda number: f"{number:.2f}")
fractions = st.builds(lambda above, below: rf"\frac{{{above}}}{{{below}}}", st.integers(-99, 99), st.integers(1, 99))
roots = st.builds(lambda factor, radicand: rf"{factor}\sqrt{{{radicand}}}", st.integers(2, 9), st.integers(2, 50))
polynomials = st.builds(lambda a, b, c: f"{a}x^2+{b}x-{c}", *[st.integers(1, 20)] * 3)
numbers = st.one_of(integers, decimals, fractions, roots)
tuples = st.lists(numbers, min_size=2, max_size=4).map(lambda items: f"({', '.join(items)})")
sets = st.lists(numbers, min_size=1, max_size=4).map(lambda items: rf"\{{{', '.join(items)}\}}")
words = st.sampled_from(["even", "Monday", "no solution", r"\text{parallelogram}", "B", "(C)"])
answers = st.one_of(numbers, polynomials, tuples, sets, words)
any_text = st.text(st.characters(codec=None), max_size=200)
latex = st.lists(
    st.sampled_from(
        r"\frac \sqrt \left( \right) { } [ ] ( ) | ^ _ + - * / = < > , ; : ! \% & \\ \{ \} x y e i 0 1 2 10 0.5 \pi \infty \pm \cup "
        r"\in \leq \text{cm} \text{or} and \sin \log_2 \sum_{k=1}^{n} \begin{pmatrix} \end{pmatrix} \overline{3} ^\circ "
        r"\mathbb{R} \binom \lfloor \langle \mid \boxed{ $ \$ \text{ even million 9^9 5! \pmod{7} \operatorname{lcm} pi ½ ² − √".split()
    ),
    max_size=15,
).map(" ".join)


@given(answers)
def test_an_answer_equals_itself(answer):
    assert answers_equal(answer, answer) is True
    assert grade(f"<think>...</think><answer>{answer}</answer>", answer) is True
    assert grade(rf"So it is $\boxed{{ {answer} }}$.", answer) is True


@given(answers, answers)
def test_two_answers_are_compared_alike_from_both_sides(first, second):
    assert answers_equal(first, second) == answers_equal(second, first)


@given(st.fractions(min_value=-50, max_value=50, max_denominator=60), st.fractions(min_value=-50, max_value=50, max_denominator=60))
def test_fractions_are_equal_exactly_when_their_values_are(first, second):
    def written(value):
        return rf"\dfrac{{{value.numerator}}}{{{value.denominator}}}"

    assert answers_equal(written(first), f"{second.numerator}/{second.denominator}") is (first == second)
    assert answers_equal(written(first), f"{3 * first.numerator}/{3 * first.denominator}") is True


@given(st.permutations(["1", "-2", r"\frac{1}{2}", r"\sqrt{3}"]))
def test_the_order_of_sets_and_bare_lists_does_not_matter_that_of_tuples_does(items):
    in_order = items == ["1", "-2", r"\frac{1}{2}", r"\sqrt{3}"]
    assert answers_equal(rf"\{{{', '.join(items)}\}}", r"\{1, -2, \frac{1}{2}, \sqrt{3}\}") is True
    assert answers_equal(", ".join(items), r"1, -2, \frac{1}{2}, \sqrt{3}") is True
    assert answers_equal(f"({', '.join(items)})", r"(1, -2, \frac{1}{2}, \sqrt{3})") is in_order


@given(st.lists(st.integers(-30, 30), min_size=1, max_size=5, unique=True), st.integers(-30, 30))
def test_one_more_element_is_another_list(items, extra):
    gold = ", ".join(map(str, items))
    assert answers_equal(f"{gold}, {extra}", gold) is False
    assert answers_equal(f"{gold} or {extra}", gold) is False


@given(answers, any_text)
@example("72", "72")
@example("72", "\\boxed{72}")
@example("72", "<answer>72</answer>")
def test_adding_junk_behind_the_answer_never_helps(answer, junk):
    wrong = "<think>...</think><answer>7.25 \\text{ wrong}</answer>"
    assert grade(wrong + junk, answer) is not True or "</think>" in junk
    right = f"<think>...</think><answer>{answer}</answer>"
    assert grade(right + junk, answer) in (True, False)


@given(any_text, st.one_of(answers, any_text))
@settings(max_examples=300)
def test_no_text_raises(completion, gold):
    assert grade(completion, gold) in (True, False, None)
    assert grade(f"<answer>{completion}</answer>", gold) in (True, False, None)
    assert answers_equal(completion, gold) in (True, False, None)


@given(latex, st.one_of(answers, latex))
@settings(max_examples=1000)
def test_no_latex_raises(answer, gold):
    assert answers_equal(answer, gold) in (True, False, None)


@given(st.binary(max_size=200))
def test_no_bytes_raise(content):
    for encoding in ("latin-1", "utf-16-le"):
        assert answers_equal(content.decode(encoding, errors="surrogatepass" if encoding == "latin-1" else "replace"), "72") in (True, False)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_decimal_never_stands_for_another_fraction(above, below):
    value = Fraction(above, below)
    coarse = f"{above / below:.3f}"
    assert answers_equal(coarse, f"{above}/{below}") is (Fraction(coarse) == value)
