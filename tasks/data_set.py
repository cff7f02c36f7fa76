"""How the rows of a data set become the problems of a task: read, checked, deduplicated, divided, and counted."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from rewards.math_answer import gold_problem
from tasks.base import BadRow, Loaded, NoProblemsError, Problem, Source, Split, is_heldout, question_id
from tasks.distinct import DistinctProblems
from tasks.rows import Row, is_file, read_file, read_hub, split_hub_name

HELDOUT_ONE_IN = 20
"""Of the problems of a lone file, or of a published set without a test split."""

QUESTION_FIELDS = ("question", "problem", "prompt", "Question", "Problem", "input")
ANSWER_FIELDS = ("answer", "target", "final_answer", "Answer", "ground_truth")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a row says."""

    question: str
    reference: Mapping[str, Any]
    solution: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A published data set, or whatever has rows like it.

    A benchmark has no training split: training on it needs a file of one's own.
    """

    task: str
    """The name of its task, for errors."""
    hub: str | None
    """Its name on the hub; None: `task.path` must be given."""
    splits: Mapping[Split, str]
    """Split -> its name on the hub; without "heldout", one problem in HELDOUT_ONE_IN is held out, by hash."""
    read: Callable[[Row, Source], Reading | None]
    """Turn a row into a problem, or into None where it is not wanted (another level); raises ValueError with the reason."""
    configs: Sequence[str | None] = (None,)
    """Of the hub's data set, taken one after another."""
    is_large: bool = False
    """Whether the hub's data set is streamed; one of the user's own always is."""
    gold_problem: Callable[[Mapping[str, Any]], str] = field(default=lambda reference: gold_problem(str(reference["answer"])))
    """Why a gold cannot be read by the task's grader; "" when it can."""

    def load(self, split: Split, seed: int | None, source: Source) -> Loaded:
        """`Task.load`. Where both splits come from one place, both are read, and the right part is kept."""
        heldout = self._heldout_place(source)
        num_divided = 0
        if split == "train":
            self._train_place(source)  # refuses at once what has no training problems
        if split == "heldout" and heldout is not None:
            loaded = self._collect(*heldout)
        elif heldout is None:
            loaded = self._collect(*self._train_place(source))
            # By the question's id, not the problem's: all spellings of a question are on one side.
            kept = [
                one for one in loaded.problems if is_heldout(question_id(one.question), HELDOUT_ONE_IN) == (split == "heldout")
            ]
            num_divided = len(loaded.problems)
            loaded = _replaced(loaded, kept, num_overlapping=0)
        else:
            # Whatever the two sources are, no problem is in both.
            heldout_ids = {question_id(problem.question) for problem in self._collect(*heldout).problems}
            loaded = self._collect(*self._train_place(source))
            kept = [problem for problem in loaded.problems if question_id(problem.question) not in heldout_ids]
            loaded = _replaced(loaded, kept, num_overlapping=len(loaded.problems) - len(kept))
        if not loaded.problems:
            self._refuse_empty(split, source, loaded, num_divided)
        if seed is None:
            return loaded
        problems = list(loaded.problems)
        Random(seed).shuffle(problems)
        return _replaced(loaded, problems, num_overlapping=loaded.num_overlapping)

    def _train_place(self, source: Source) -> tuple[Source, str, str]:
        """Where the training problems are: what was asked for, a path or name, and a split on the hub."""
        if source.path is not None:
            return source, source.path, self.splits.get("train", "train")
        if self.hub is None:
            raise ValueError(
                f"option 'task.path': the task {self.task!r} needs problems; give a file, or a hub name like openai/gsm8k"
            )
        if "train" not in self.splits:
            raise ValueError(
                f"option 'task.name': {self.task!r} is a benchmark without training problems; evaluate on it, or train on "
                "problems of your own with task.path"
            )
        return source, self.hub, self.splits["train"]

    def _heldout_place(self, source: Source) -> tuple[Source, str, str] | None:
        """Where the held-out problems are; None where they are a share of the training problems."""
        path = source.heldout_path
        if path is not None and source.path is not None and Path(path).resolve() == Path(source.path).resolve():
            path = None  # the same file named twice, in whatever spelling
        if path is not None:
            return source, path, self.splits.get("heldout", "test")
        if source.path is None and self.hub is not None and "heldout" in self.splits:
            return source, self.hub, self.splits["heldout"]
        if source.path is not None and not is_file(source.path) and split_hub_name(source.path)[2] is None:
            return (source, source.path, self.splits["heldout"]) if "heldout" in self.splits else None
        return None

    def _collect(self, source: Source, place: str, hub_split: str) -> Loaded:
        rows = read_file(place) if is_file(place) else self._hub_rows(place, hub_split)
        distinct = DistinctProblems()
        bad_rows: list[BadRow] = []
        num_rows = num_duplicates = 0
        for where, row in rows:
            num_rows += 1
            problem = row if isinstance(row, BadRow) else self._problem(where, row, source)
            verdict = distinct.add(where, problem) if isinstance(problem, Problem) else problem
            if isinstance(verdict, BadRow):
                bad_rows.append(verdict)
            elif verdict is not None:
                num_duplicates += not verdict
        return Loaded(
            problems=tuple(distinct.problems.values()),
            bad_rows=tuple(bad_rows),
            num_rows=num_rows,
            num_duplicates=num_duplicates,
        )

    def _hub_rows(self, place: str, hub_split: str) -> Iterator[tuple[str, Row | BadRow]]:
        name, config, split = split_hub_name(place)
        is_published = name == self.hub
        configs = self.configs if is_published and config is None else (config,)
        return read_hub(name, configs, split or hub_split, is_large=self.is_large or not is_published)

    def _problem(self, where: str, row: Row, source: Source) -> Problem | BadRow | None:
        try:
            reading = self.read(row, source)
        except ValueError as error:
            return BadRow(where=where, reason=str(error))
        if reading is None:
            return None
        if not _is_text("".join([reading.question, reading.solution, *map(str, reading.reference.values())])):
            return BadRow(where=where, reason="it holds half of a character (a lone surrogate), which no tokenizer reads")
        problem = self.gold_problem(reading.reference)
        if problem:
            gold = str(reading.reference.get("answer"))
            return BadRow(where=where, reason=f"the gold {gold[:60]!r} cannot be read: {problem}")
        return Problem(
            problem_id=question_id(reading.question),
            question=reading.question,
            reference=reading.reference,
            solution=reading.solution,
        )

    def _refuse_empty(self, split: Split, source: Source, loaded: Loaded, num_divided: int) -> None:
        """num_divided: the problems of both splits, where one source is divided between them."""
        place = (source.heldout_path if split == "heldout" else None) or source.path or self.hub
        num_bad = len(loaded.bad_rows)
        first = f"the first of {num_bad} bad rows is {describe(loaded.bad_rows[0])}; " if num_bad else ""
        if num_bad and num_bad == loaded.num_rows:
            why = "no row is good; mend them, r1 tasks show ... --bad lists them all"
        elif num_divided:
            which = "none" if split == "heldout" else "all"
            why = (
                f"one in {HELDOUT_ONE_IN} is held out, by hash, {which} of these {num_divided}; give a larger file, held-out "
                "problems as task.heldout_path, or evaluate.num_completions=0"
            )
        elif loaded.num_overlapping:
            why = f"what it has is held out as well ({loaded.num_overlapping}); give other problems"
        else:
            why = "give a larger file"
        raise NoProblemsError(
            f"option 'task.path': {place!r} holds no problem for the {split} split; {first}{why}", bad_rows=loaded.bad_rows
        )


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def describe(bad_row: BadRow) -> str:
    """One line on a bad row."""
    return f"{bad_row.where}: {bad_row.reason}"


def field_of(row: Row, names: Iterable[str], chosen: str | None, what: str) -> Any:
    """Return the first of the fields that is there and not empty; `chosen`, if it is given, and no other."""
    names = [chosen] if chosen else list(names)
    for name in names:
        value = row.get(name)
        if value is not None and (not isinstance(value, str) or value.strip()):
            return value
    has = ", ".join(map(str, row)) or "none"
    raise ValueError(f"no {what} in {' or '.join(map(repr, names))}; its fields are {has[:100]}")


def question_of(row: Row, source: Source, names: Iterable[str] = QUESTION_FIELDS) -> str:
    """The question's text."""
    question = field_of(row, names, source.question_field, "question")
    if not isinstance(question, str):
        raise ValueError(f"the question must be text, got {type(question).__name__}")
    return question.strip()


def first_rows(loaded: Loaded, count: int) -> Iterator[str]:
    """The first bad rows in words, and how many more there are."""
    more = len(loaded.bad_rows) - count
    return chain(map(describe, loaded.bad_rows[:count]), [f"and {more} more"] if more > 0 else [])


def _replaced(loaded: Loaded, problems: Sequence[Problem], *, num_overlapping: int) -> Loaded:
    return Loaded(
        problems=tuple(problems),
        bad_rows=loaded.bad_rows,
        num_rows=loaded.num_rows,
        num_duplicates=loaded.num_duplicates,
        num_overlapping=num_overlapping,
    )
