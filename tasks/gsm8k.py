"""GSM8K: grade-school word problems with one number as their answer (Cobbe et al. 2021, arXiv 2110.14168)."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from tasks.base import Problem, Split, Task, is_heldout

HELDOUT_ONE_IN = 20
GIVE = "give a JSON-lines file or a hub name such as openai/gsm8k"
HUB_SPLITS: Mapping[Split, str] = {"train": "train", "heldout": "test"}

_GOLD = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def load(split: Split, seed: int, path: str | None, heldout_path: str | None = None) -> list[Problem]:
    """Return the split's problems in the order that the seed draws them.

    A path is a JSON-lines file with `question` and `answer`, or a hub name such as openai/gsm8k, whose own "train"
    and "test" splits are taken. Of a lone local file one problem in 20, chosen by hash, is held out.
    """
    if path is None:
        raise ValueError(f"option 'task.path': the task 'gsm8k' needs problems; {GIVE}")
    if heldout_path is not None and Path(heldout_path).resolve() == Path(path).resolve():
        heldout_path = None  # the same file named twice, in whatever spelling
    source = (heldout_path or path) if split == "heldout" else path
    problems = _read(source, split)
    if heldout_path is None and _is_file(path):
        problems = [problem for problem in problems if is_heldout(problem.problem_id, HELDOUT_ONE_IN) == (split == "heldout")]
    elif split == "train":
        # Whatever the two sources are, no problem is in both.
        heldout_ids = {problem.problem_id for problem in _read(heldout_path or path, "heldout")}
        problems = [problem for problem in problems if problem.problem_id not in heldout_ids]
    if not problems:
        raise ValueError(f"option 'task.path': {source!r} holds no problem for the {split} split; give a larger file")
    Random(seed).shuffle(problems)
    return problems


def _is_file(source: str) -> bool:
    return Path(source).is_file() or source.endswith(".jsonl")


def _read(source: str, split: Split) -> list[Problem]:
    return list(_read_problems(_read_file(Path(source)) if _is_file(source) else _read_hub(source, HUB_SPLITS[split])))


def _read_file(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (where, row) for each line that is not blank."""
    if not path.is_file():
        raise ValueError(f"option 'task.path': no file {str(path)!r}; {GIVE}")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            try:
                if line.strip():
                    yield where, json.loads(line)
            except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError; brackets without end
                raise ValueError(f"{where}: not JSON ({error}); write one object a line") from error


def _read_hub(name: str, hub_split: str) -> Iterator[tuple[str, Any]]:
    import datasets  # takes seconds, and only hub names need it

    try:
        rows = datasets.load_dataset(name, "main", split=hub_split)
    except (OSError, ValueError, RuntimeError) as error:
        # Offline (ConnectionError, an OSError), no such data set (DatasetNotFoundError, a FileNotFoundError), no
        # such configuration or split (ValueError); httpx and the hub raise RuntimeErrors of their own.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"option 'task.path': cannot load {name!r} from the hub ({reason}); give a JSON-lines file, or connect this machine"
        ) from error
    yield from ((f"{name}, {hub_split} row {number}", row) for number, row in enumerate(rows))


def _read_problems(rows: Iterable[tuple[str, Any]]) -> Iterator[Problem]:
    where_seen: dict[str, str] = {}
    for where, row in rows:
        problem = _read_problem(where, row)
        first = where_seen.setdefault(problem.problem_id, where)
        if first is not where:
            raise ValueError(f"{where}: the same question as in {first}; remove one of them")
        yield problem


def _read_problem(where: str, row: Any) -> Problem:
    """Turn {"question": "...", "answer": "working #### 1,080"} into a problem whose reference is {"answer": "1080"}."""
    fields = row if isinstance(row, dict) else {}
    question, answer = fields.get("question"), fields.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str) or not question.strip():
        raise ValueError(f"{where}: needs the text fields 'question' and 'answer'")
    _, marker, gold = answer.rpartition("####")
    gold = gold.strip().replace(",", "")
    if not marker or not _GOLD.fullmatch(gold):
        raise ValueError(f"{where}: 'answer' must end in '#### ' and the gold number, got {answer[-40:]!r}")
    question = question.strip()
    problem_id = blake2b(question.encode(), digest_size=8).hexdigest()
    return Problem(problem_id=problem_id, question=question, reference={"answer": gold})


GSM8K = Task(
    name="gsm8k",
    load=load,
    rewards={"math_answer": 1.0, "reasoning_format": 0.1},
    correctness="math_answer",
    instructions=(
        "Think the problem through step by step inside <think> </think>. "
        "Then give the final number, and nothing else, inside <answer> </answer>."
    ),
)
