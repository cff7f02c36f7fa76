import pytest

from rewards.multiple_choice import multiple_choice

# The gold is B; the choices are not known.
CASES = [
    ("B", 1.0, "the letter"),
    (" b ", 1.0, "a small letter"),
    ("(B)", 1.0, "in brackets"),
    ("[B]", 1.0, "in square brackets"),
    ("B.", 1.0, "with a full stop"),
    ("B)", 1.0, "with half a bracket"),
    ("(B).", 1.0, "with both"),
    ("\\text{B}", 1.0, "as text"),
    ("\\textbf{(B)}", 1.0, "in bold"),
    ("\\mathbf{B}", 1.0, "in bold mathematics"),
    ("\\textbf{(\\text{B})}", 1.0, "text in text"),
    ("$B$", 1.0, "as a formula"),
    ("\\(B\\)", 1.0, "as LaTeX's other formula"),
    ("**B**", 1.0, "in Markdown's bold"),
    ("\\boxed{B}", 1.0, "in a box"),
    ("\\boxed{\\textbf{(B)}\\ 42}", 1.0, "as AMC prints it"),
    ("B) 42", 1.0, "with its text"),
    ("(B) 42 apples", 1.0, "with its text"),
    ("B: a cat", 1.0, "with an article in its text"),
    ("B) x + 1", 1.0, "with a variable in its text"),
    ("B) it's both", 1.0, "with an apostrophe in its text"),
    ("A", 0.0, "another letter"),
    ("C) B", 0.0, "another letter with this one as its text"),
    ("", 0.0, "nothing"),
    ("42", 0.0, "a text without a letter"),
    ("A or B", 0.0, "two letters"),
    ("B or A", 0.0, "two letters, the right one first"),
    ("B) or C)", 0.0, "two letters with brackets"),
    ("b) or c)", 0.0, "two small letters"),
    ("b) or a)", 0.0, "two small letters, one an article"),
    ("(B) (C)", 0.0, "two letters in brackets"),
    ("B, C", 0.0, "a list"),
    ("BC", 0.0, "two letters together"),
    ("ABCD", 0.0, "all letters"),
    ("B because it is 42", 0.0, "a sentence"),
    ("Bees", 0.0, "a word that begins with it"),
    ("not B", 0.0, "the opposite"),
    ("B) 42, and not C", 0.0, "another letter in its text"),
    ("\\boxed{A}\\boxed{B}", 1.0, "the last box wins, as in math_answer"),
    ("\\boxed{B}\\boxed{A}", 0.0, "the last box wins"),
    ("Β", 0.0, "a Greek letter that looks like it"),
    ("B) " + "word " * 250, 0.0, "longer than 1000 characters"),
]


@pytest.mark.parametrize(("answer", "expected", "why"), CASES, ids=[why for *_, why in CASES])
def test_multiple_choice(answer, expected, why):
    completion = f"<think>A? B? C?</think> <answer>{answer}</answer>"
    assert multiple_choice(completion, {"answer": "B"}) == expected, why


@pytest.mark.parametrize("choices", [{"A": "41", "B": "42", "C": "B 42"}, ["41", "42", "B 42"], ("41", 42, "B 42")])
@pytest.mark.parametrize(
    ("answer", "expected", "why"),
    [
        ("B", 1.0, "the letter"),
        ("B) 42", 1.0, "with its text"),
        ("B. $42$", 1.0, "with its text as a formula"),
        ("B) 41", 0.0, "with another choice's text"),
        ("B) 42 or 41", 0.0, "with two texts"),
        ("42", 0.0, "the text alone"),
        ("C) B 42", 0.0, "another choice"),
    ],
)
def test_with_the_choices_the_text_must_be_that_of_the_letter(choices, answer, expected, why):
    assert multiple_choice(f"<answer>{answer}</answer>", {"answer": "B", "choices": choices}) == expected, why


@pytest.mark.parametrize(
    ("form", "completion", "expected"),
    [
        ("any", "so \\boxed{B}", 1.0),
        ("box", "so \\boxed{B}", 1.0),
        ("tags", "so \\boxed{B}", 0.0),
        ("tags", "so <answer>B</answer>", 1.0),
        ("line", "so\nAnswer: B", 1.0),
        ("any", "so\nAnswer: B", 0.0),
        ("any", "B", 0.0),
        ("any", "<think>\\boxed{B}", 0.0),
        ("any", "<think>\\boxed{B}</think>", 0.0),
    ],
)
def test_the_answer_stands_where_the_template_asks_for_it(form, completion, expected):
    assert multiple_choice(completion, {"answer": "B", "answer_form": form}) == expected


@pytest.mark.parametrize("gold", ["", "BC", "b", "(B)", "1", "Β", None])
def test_an_unreadable_gold_cannot_be_judged(gold):
    assert multiple_choice("<answer>B</answer>", {"answer": gold}) is None


def test_a_gold_that_is_no_choice_cannot_be_judged():
    assert multiple_choice("<answer>D</answer>", {"answer": "D", "choices": ["41", "42", "43"]}) is None
