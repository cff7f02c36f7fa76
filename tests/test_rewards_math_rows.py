"""Every row of tests/math_rows_*.py: a policy of docs/math_grading.md as examples."""

import math_rows_algebra
import math_rows_extraction
import math_rows_hostile
import math_rows_numbers
import math_rows_reviewed
import math_rows_structures
import math_rows_words
import pytest

from rewards.math_answer import answers_equal, grade

ANSWER_MODULES = [
    math_rows_numbers,
    math_rows_structures,
    math_rows_algebra,
    math_rows_words,
    math_rows_hostile,
    math_rows_reviewed,
]
# One test a kind, which shows all its misses: 1,300 tests of a row each took five seconds longer.
ANSWERS = [(kind, rows) for module in ANSWER_MODULES for kind, rows in module.ROWS.items()]
COMPLETIONS = list(math_rows_extraction.ROWS.items())


@pytest.mark.parametrize(("kind", "rows"), ANSWERS, ids=[kind for kind, _ in ANSWERS])
def test_answers(kind, rows):
    judged = [(gold, answer, answers_equal(answer, gold), expected, why) for gold, answer, expected, why in rows]
    assert [row for row in judged if row[2] is not row[3]] == []


@pytest.mark.parametrize(("kind", "rows"), COMPLETIONS, ids=[kind for kind, _ in COMPLETIONS])
def test_completions(kind, rows):
    judged = [(gold, text, form, grade(text, gold, form), expected, why) for gold, text, form, expected, why in rows]
    assert [row for row in judged if row[3] is not row[4]] == []


def test_the_tables_are_large_and_no_row_is_written_twice():
    inputs = [row[:2] for _, rows in ANSWERS for row in rows] + [row[:3] for _, rows in COMPLETIONS for row in rows]
    assert len(inputs) >= 500
    assert len(set(inputs)) == len(inputs)
    kinds = [kind for kind, _ in (*ANSWERS, *COMPLETIONS)]
    assert len(set(kinds)) == len(kinds)
