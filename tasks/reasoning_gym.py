"""Any generator of the package reasoning-gym by name: `reasoning_gym:leg_counting` (github.com/open-thought/reasoning-gym).

An optional extra: pip install 'r1[reasoning_gym]'. The package judges the answers as well (rewards/reasoning_gym.py).
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Any

from tasks.base import BadRow, Loaded, Problem, Source, Split, Task, question_id, refuse_paths

NUM_ITEMS: Mapping[Split, int] = {"train": 2_000, "heldout": 200}
"""Some generators are slow: countdown takes 0.05 s an item, sudoku 0.1 s."""
FIRST_ITEM: Mapping[Split, int] = {"train": 1_000_000, "heldout": 1}
"""Seeds of the package: item i is drawn from seed + i, so the two must lie further apart than NUM_ITEMS."""


def load_generator(generator: str, split: Split, seed: int | None, source: Source) -> Loaded:
    """Generate the split's problems; the same ones for every seed, which draws their order alone."""
    refuse_paths(f"reasoning_gym:{generator}", source)
    heldout, _, _ = _generate(generator, "heldout")
    problems, bad_rows, num_duplicates = (heldout, [], 0) if split == "heldout" else _generate(generator, "train")
    num_overlapping = 0
    if split == "train":
        num_before = len(problems)
        problems = {name: problem for name, problem in problems.items() if name not in heldout}
        num_overlapping = num_before - len(problems)
    ordered = list(problems.values())
    if seed is not None:
        Random(seed).shuffle(ordered)
    return Loaded(
        problems=tuple(ordered),
        bad_rows=tuple(bad_rows),
        num_rows=NUM_ITEMS[split],
        num_duplicates=num_duplicates,
        num_overlapping=num_overlapping,
    )


@lru_cache(maxsize=8)  # the training split needs the held-out one as well
def _generate(generator: str, split: Split) -> tuple[dict[str, Problem], list[BadRow], int]:
    try:
        import reasoning_gym
    except ImportError as error:
        raise ValueError(
            "option 'task.name': the package reasoning-gym is not installed; pip install reasoning-gym"
        ) from error
    try:
        items = list(reasoning_gym.create_dataset(generator, size=NUM_ITEMS[split], seed=FIRST_ITEM[split]))
    except (ValueError, AssertionError, TypeError) as error:  # no such generator; one that needs options (composite)
        raise ValueError(
            f"option 'task.name': reasoning_gym cannot generate {generator!r} ({error}); "
            "python -c 'from reasoning_gym.factory import DATASETS; print(sorted(DATASETS))' lists its generators"
        ) from error
    judge = reasoning_gym.get_score_answer_fn(generator)
    problems: dict[str, Problem] = {}
    bad_rows: list[BadRow] = []
    num_duplicates = 0
    for number, item in enumerate(items):
        try:
            entry = _entry(item)
            if judge(str(item["answer"]), json.loads(entry)) < 1.0:
                raise ValueError("its own answer does not get the full mark")
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            # Metadata that is no JSON, or that the judge cannot read when it has been JSON.
            bad_rows.append(BadRow(where=f"{generator}, item {number}", reason=f"cannot be judged in another process: {error}"))
            continue
        name = question_id(item["question"])
        num_duplicates += name in problems
        reference = {"answer": str(item["answer"]), "generator": generator, "entry": entry}
        problems.setdefault(name, Problem(problem_id=name, question=item["question"], reference=reference))
    if not problems:
        raise ValueError(
            f"option 'task.name': not one item of reasoning_gym's {generator!r} can be used; the first, {bad_rows[0].reason}"
        )
    return problems, bad_rows, num_duplicates


def _entry(item: Mapping[str, Any]) -> str:
    """What the package's own judge wants to see, as JSON, in which it is sent to the reward children.

    Without the ids that some versions draw anew for each item: the same problem must have the same reference again.
    """
    metadata = {key: value for key, value in item["metadata"].items() if not key.startswith("_rgid")}
    return json.dumps({"question": item["question"], "answer": item["answer"], "metadata": metadata})


def of_generator(generator: str) -> Task:
    """The task of one generator."""
    return replace(
        REASONING_GYM,
        name=f"reasoning_gym:{generator}",
        load=lambda split, seed, source: load_generator(generator, split, seed, source),
        configure=None,
    )


def _needs_generator(split: Split, seed: int | None, source: Source) -> Loaded:
    raise ValueError("option 'task.name': reasoning_gym needs a generator; write reasoning_gym:leg_counting, say")


REASONING_GYM = Task(
    name="reasoning_gym",
    load=_needs_generator,
    rewards={"reasoning_gym": 1.0, "reasoning_format": 0.1},
    correctness="reasoning_gym",
    configure=of_generator,
)
