"""What a problem and a task are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from typing import Any, Literal
from unicodedata import decomposition, normalize

Split = Literal["train", "heldout"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One question whose answer can be checked.

    >>> Problem(problem_id="12+7", question="12+7=", reference={"answer": "19"}).reference["answer"]
    '19'
    """

    problem_id: str
    """Unique within the task, stable between runs: traces of different steps are joined on it."""
    question: str
    """The bare question, without instructions or template."""
    reference: Mapping[str, Any]
    """What the reward functions check against; JSON-like values, `answer` in all shipped tasks."""
    solution: str = ""
    """How the data set works it out, without the final answer's mark; only ever shown as a few-shot example."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a task's problems come from, as in the configuration's section `task`."""

    path: str | None = None
    """A local file or a hub name; None: the task generates its problems, or has a published data set of its own."""
    heldout_path: str | None = None
    """The same for the held-out problems: all of it is held out."""
    question_field: str | None = None
    """The row's field with the question; None: where the task's published data have it."""
    answer_field: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A row of a data set that is no problem."""

    where: str
    """For people: "train.jsonl, line 12"."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """The problems of a split, and what became of the other rows."""

    problems: tuple[Problem, ...]
    """Distinct; in the order of the source without a seed, else as the seed shuffles them."""
    bad_rows: tuple[BadRow, ...] = ()
    num_rows: int = 0
    """Rows that were read for this split, bad ones and repetitions included; 0 where problems are generated."""
    num_duplicates: int = 0
    """Rows that repeat the question and the answer of an earlier one."""
    num_overlapping: int = 0
    """Training problems left out because they are held out as well."""


class NoProblemsError(ValueError):
    """Nothing is left of a split."""

    def __init__(self, message: str, bad_rows: tuple[BadRow, ...]) -> None:
        super().__init__(message)
        self.bad_rows = bad_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Problems, and how a completion for them is rewarded."""

    name: str
    load: Callable[[Split, int | None, Source], Loaded]
    """load(split, seed, source): the split's problems; the two splits share none, whatever the seeds.

    seed: draws the order; None keeps the order of the source. Raises ValueError for what the user can mend.
    """
    rewards: Mapping[str, float]
    """Reward name -> weight; the reward of a completion is the weighted sum."""
    correctness: str
    """The name in `rewards` that tells right from wrong; reported as `accuracy`."""
    answer: str = "the final answer"
    """What a template asks for, in words that fit "Then give ..."."""
    instructions: str = ""
    """What the policy must know besides the question; templates with a place for it put it in front."""
    hub: str | None = None
    """The published data set that is read where no path is given; None where there is none."""
    is_benchmark: bool = False
    """Whether its published problems are for evaluation alone; training takes a file of one's own."""
    configure: Callable[[str], "Task"] | None = None
    """Makes the task that NAME:ARGUMENT stands for; None for tasks that take no argument. Raises ValueError."""


def is_heldout(problem_id: str, one_in: int) -> bool:
    """Whether a problem belongs to the held-out split: a fixed one in `one_in` of all ids, by hash.

    The choice depends on the id alone, so train and held-out never share a problem, whatever the seed,
    the order or the number of problems that are drawn.

    >>> [is_heldout(str(i), 4) for i in range(8)]
    [False, False, True, False, False, True, True, False]
    """
    return int.from_bytes(blake2b(problem_id.encode(), digest_size=8).digest(), "big") % one_in == 0


def question_id(question: str) -> str:
    """An id that two spellings of a question share: case, white space and forms of characters make no difference.

    >>> question_id("What is  2+2?\\n") == question_id("what is 2+2?")
    True
    >>> question_id("3²") == question_id("32"), question_id("3²") == question_id("3^{2}")
    (False, True)
    """
    same = " ".join(normalize("NFKC", _with_places(question)).casefold().split())
    return blake2b(same.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


_PLACES = {"<super>": "^{", "<sub>": "_{"}
"""Unicode's kinds of characters that NFKC puts into the line, where 3² would be 32 -> how LaTeX keeps them out of it."""


def _with_places(question: str) -> str:
    if question.isascii():
        return question
    runs = groupby(question, lambda character: _PLACES.get(decomposition(character).partition(" ")[0]))
    return "".join(f"{place}{''.join(run)}}}" if place else "".join(run) for place, run in runs)


def refuse_paths(task: str, source: Source) -> None:
    """Raise ValueError where a task that generates its problems is given some."""
    for option in ("path", "heldout_path", "question_field", "answer_field"):
        given = getattr(source, option)
        if given is not None:
            raise ValueError(f"option 'task.{option}': the task {task!r} generates its problems; remove {given!r}")
