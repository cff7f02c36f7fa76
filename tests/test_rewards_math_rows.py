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

ANSWER_TABLES = [math_rows_reviewed, math_rows_numbers, math_rows_structures, math_rows_algebra, math_rows_words, math_rows_hostile]


def rows_of(*modules):
    """All rows with the ids kind-0, kind-1, ..."""
    return [
        pytest.param(*row, id=f"{kind}-{number}")
        for module in modules
        for kind, rows in module.ROWS.items()
        for number, row in enumerate(rows)
    ]


ANSWER_ROWS = rows_of(*ANSWER_TABLES)
EXTRACTION_ROWS = rows_of(math_rows_extraction)


@pytest.mark.parametrize(("gold", "answer", "expected", "why"), ANSWER_ROWS)
def test_answer_rows(gold, answer, expected, why):
    assert answers_equal(answer, gold) is expected, why


@pytest.mark.parametrize(("gold", "completion", "form", "expected", "why"), EXTRACTION_ROWS)
def test_extraction_rows(gold, completion, form, expected, why):
    assert grade(completion, gold, form) is expected, why


def test_the_tables_are_large_and_no_row_is_written_twice():
    inputs = [row.values[:2] for row in ANSWER_ROWS] + [row.values[:3] for row in EXTRACTION_ROWS]
    assert len(inputs) >= 500
    assert len(set(inputs)) == len(inputs)
    assert len({row.id for row in ANSWER_ROWS + EXTRACTION_ROWS}) == len(inputs)
