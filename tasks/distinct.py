"""Which rows of a source ask the same question, and what becomes of those whose answers differ."""

from dataclasses import dataclass, field, replace
from hashlib import blake2b
from unicodedata import normalize

from tasks.base import BadRow, Problem


@dataclass(kw_only=True, slots=True)
class DistinctProblems:
    """The distinct problems of a source, as its rows are read."""

    problems: dict[str, Problem] = field(default_factory=dict)
    """By id, in the order of their rows."""
    _seen_at: dict[str, str] = field(default_factory=dict)
    _others: dict[str, list[Problem]] = field(default_factory=dict)
    """Question's id -> the problems in other spellings of it that have other answers; empty but for a few."""

    def add(self, where: str, problem: Problem) -> bool | BadRow:
        """Return whether the problem is new; a `BadRow` where its question stood there with another answer."""
        first = self.problems.get(problem.problem_id)
        if first is not None:
            others = self._others.get(problem.problem_id, [])
            if not others and first.reference == problem.reference:
                return False
            written = spelling(problem.question)
            same = next((one for one in (first, *others) if spelling(one.question) == written), None)
            if same is not None and same.reference != problem.reference:
                seen = self._seen_at[same.problem_id]
                return BadRow(where=where, reason=f"the question of {seen} with another answer; correct one of them")
            if same is not None or any(one.reference == problem.reference for one in (first, *others)):
                return False
            # Two questions, as their answers show: "Find A." and "Find a.", of a text with both.
            problem = replace(problem, problem_id=spelling_id(problem.question))
            self._others[first.problem_id] = [*others, problem]
        self.problems[problem.problem_id] = problem
        self._seen_at[problem.problem_id] = where
        return True


def spelling(question: str) -> str:
    """A question as it is written, but for white space and the ways to encode a character."""
    return " ".join(normalize("NFC", question).split())


def spelling_id(question: str) -> str:
    """An id of one spelling alone; none of them is the id of a question."""
    return blake2b(spelling(question).encode("utf-8", "surrogatepass"), digest_size=8, person=b"spelling").hexdigest()
