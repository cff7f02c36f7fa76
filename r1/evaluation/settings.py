"""What an evaluation depends on, checked and kept as OUT/evaluation.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from r1.config import Count, Dtype, PositiveFloat, RunConfig, Section, check_config
from r1.config_secrets import refuse_secrets
from r1.errors import UserError
from r1.files import atomic_file
from r1.prompts import get_template
from tasks.base import Split

FILE = "evaluation.json"
CHUNK_ROUNDS = 2
"""Completions of a chunk, as a multiple of what the engines decode at the same time. More would lose more work when the
evaluation is killed, fewer would let the engines run empty more often: they do at the end of each chunk."""
ANSWER_TOKENS = 64
"""Longest forced answer."""
CLOSING_TOKENS = 32
"""Room for the text that is put in front of it."""


class TaskSource(Section):
    """A task, and where its problems come from."""

    name: str
    path: str | None = None
    """A local file or a hub name; None: the task's own source, or generated."""
    question_field: str | None = None
    """The field of a row that holds the question; None: where the published data have it. So is the next one."""
    answer_field: str | None = None
    rewards: dict[str, float] | None = None
    """Those of the run that trained on it, with what it calls right; None: the task's own."""


class EvaluationSettings(Section):
    """Everything that the samples depend on besides the code; each option is named like its field, --max-num-seqs say."""

    model: str
    """Folder with Hugging Face files, or a hub name; of a run the export of one of its checkpoints."""
    tasks: Annotated[list[TaskSource], Field(min_length=1)]
    split: Split = "heldout"
    """train measures how difficult the training problems are."""
    num_samples: Count = 1
    """k: completions of each problem."""
    num_problems: Count | None = None
    """The first so many of each task; None: all."""
    template: str | None = None
    """As task.template; None: chat where the tokenizer has a chat template, else r1_zero."""
    examples: str | None = None
    """Problems of which few_shot shows the first that are worked out: a file, or a hub name, of which the training split is read
    unless it has another; None: the task's own training set."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """0: greedy."""
    max_completion_tokens: Count = 1024
    max_prompt_tokens: Count = 1024
    """Problems with longer prompts are left out, and counted."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    budgets: Annotated[list[Count], Field(min_length=1)] | None = None
    """Tokens at which the accuracy curve is taken; None: the powers of two up to max_completion_tokens, and that."""
    force_answers: bool = False
    """Whether unfinished completions are also made to answer at each of the budgets."""
    engine: str = "r1.rollout.vllm_engine:VllmEngine"
    dtype: Dtype = "float32"
    num_workers: Count = 1
    tensor_parallel_size: Count = 1
    max_num_seqs: Count = 256
    num_threads: Count = 2
    deadline_s: PositiveFloat = 1800.0
    """Longest time for starting an engine, and in which it finishes no completion."""

    @property
    def completions_per_chunk(self) -> int:
        return CHUNK_ROUNDS * self.max_num_seqs * self.num_workers

    @property
    def token_budgets(self) -> list[int]:
        """Rising; the last one is the limit of the completions, unless they are given."""
        limit = self.max_completion_tokens
        powers = [2**i for i in range(4, limit.bit_length()) if 2**i < limit]
        return self.budgets if self.budgets is not None else [*powers, limit]


FROM_RUN = ("dtype", "num_threads")
FROM_RUNS_ROLLOUT = (
    "tensor_parallel_size",
    "max_num_seqs",
    "engine",
    "temperature",
    "max_completion_tokens",
    "max_prompt_tokens",
)
"""Options of a run that its evaluation takes over."""
FIELDS = ("question_field", "answer_field")


def new_settings(model: str, given: Mapping[str, Any], run: RunConfig | None) -> EvaluationSettings:
    """Return the settings of an evaluation; a wrong one is a `UserError` that names its option.

    model: the folder or name that is loaded. given: field -> value, of the options that were given.
    run: the configuration of the run that the model is of, whose options stand where none is given.
    """
    of_run: dict[str, Any] = {}
    if run is not None:
        for section, names in ((run, FROM_RUN), (run.rollout, FROM_RUNS_ROLLOUT), (run.task, ("template",))):
            of_run |= {name: getattr(section, name) for name in names}
    tree = {**of_run, **given, "model": model}
    return _checked({**tree, "tasks": _with_fields(tree.pop("tasks"), {name: tree.pop(name, None) for name in FIELDS}, run)})


def _with_fields(
    tasks: Sequence[Mapping[str, Any]], given: Mapping[str, str | None], run: RunConfig | None
) -> list[dict[str, Any]]:
    """Give the tasks the fields that are read: those given, where there is one task, and the run's to its own task.

    The run's own task is judged by the run's rewards as well, as its held-out problems were while it trained.
    """
    if any(given.values()) and len(tasks) > 1:
        raise UserError("options '--question-field' and '--answer-field' are for one task; evaluate it with a command of its own")
    if run is None or run.task.name not in [task["name"] for task in tasks]:
        return [{**task, **given} for task in tasks]
    fields = given if any(given.values()) else {name: getattr(run.task, name) for name in FIELDS}
    of_run = {**fields, "rewards": _anchored(run.task.rewards)}
    return [{**task, **(of_run if task["name"] == run.task.name else {})} for task in tasks]


def _anchored(rewards: Mapping[str, float] | None) -> dict[str, float] | None:
    """A run's rewards, those in files by absolute paths: an evaluation may be gone on with from another folder."""
    anchored = {}
    for name, weight in (rewards or {}).items():
        path, colon, function = name.rpartition(":")
        if colon and not Path(path).is_file():
            raise UserError(
                f"option 'RUN': its task.rewards has {name!r}, and there is no file {path!r} here; evaluate in the folder in "
                "which the run was started, or give RUN/checkpoints/NAME/hf, which is judged by the task's own rewards"
            )
        anchored[f"{Path(path).absolute()}:{function}" if colon else name] = weight
    return anchored or None


def save_settings(settings: EvaluationSettings, out: Path) -> None:
    with atomic_file(out / FILE) as temporary:
        temporary.write_text(settings.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_settings(out: Path) -> EvaluationSettings:
    """Read OUT/evaluation.json."""
    path = out / FILE
    if not path.is_file():
        raise UserError(f"option '--resume': {str(out)!r} is not the folder of an evaluation, it has no {FILE}")
    try:
        return EvaluationSettings.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        reason = f"{where}: {first['msg']}"
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: {error.reason} at byte {error.start}"
    raise UserError(f"option '--resume': {str(path)!r} is damaged or of another r1 ({reason}); start a new evaluation")


def engine_config(settings: EvaluationSettings, part: Literal["samples", "answers"] = "samples") -> RunConfig:
    """Return a run's configuration for the rollout pool; what only a learner reads has no meaning in it.

    part: samples, or the short forced answers behind them.
    """
    prompt, completion = settings.max_prompt_tokens, settings.max_completion_tokens
    if part == "answers":
        prompt, completion = prompt + max(settings.token_budgets) + CLOSING_TOKENS, ANSWER_TOKENS
    names = ("num_workers", "tensor_parallel_size", "max_num_seqs", "engine")
    tree = {
        "name": "evaluate",
        "num_steps": 1,
        "seed": settings.seed,
        "deadline_s": settings.deadline_s,
        "dtype": settings.dtype,
        "num_threads": settings.num_threads,
        "model": {"path": settings.model},
        "task": {"name": settings.tasks[0].name},
        "rollout": {
            "num_prompts": 1,
            "group_size": 2,
            "max_prompt_tokens": prompt,
            "max_completion_tokens": completion,
            **{name: getattr(settings, name) for name in names},
        },
        "learner": {"learning_rate": 1.0},
    }
    config = check_config(tree)
    # Not through the check: no run may be greedy, an evaluation may.
    rollout = config.rollout.model_copy(update={"temperature": settings.temperature})
    return config.model_copy(update={"rollout": rollout})


def parse_tasks(text: str) -> list[dict[str, str | None]]:
    """Read NAME[=PATH][,NAME[=PATH]...].

    >>> parse_tasks("gsm8k=test.jsonl,arithmetic")
    [{'name': 'gsm8k', 'path': 'test.jsonl'}, {'name': 'arithmetic', 'path': None}]
    """
    parts = [part.strip().partition("=") for part in text.split(",")]
    if not all(name for name, _, _ in parts) or any(equals and not path for _, equals, path in parts):
        raise UserError(f"option '--tasks' must look like NAME[=PATH][,NAME[=PATH]...], got {text!r}; e.g. gsm8k=test.jsonl")
    return [{"name": name, "path": path or None} for name, _, path in parts]


def parse_budgets(text: str) -> list[int]:
    """Read numbers of tokens, and put them in order.

    >>> parse_budgets("256,64")
    [64, 256]
    """
    numbers = text.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise UserError(f"option '--budgets' must be numbers of tokens with commas between them, got {text!r}; e.g. 64,128,256")
    return sorted({int(number) for number in numbers})


def _checked(tree: Mapping[str, Any]) -> EvaluationSettings:
    refuse_secrets(tree)
    try:
        settings = EvaluationSettings.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        rule = first["msg"][0].lower() + first["msg"][1:]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise UserError(f"option {option!r}: {rule}, got {first['input']!r}; see python -m launch.evaluate --help") from error
    if settings.temperature == 0 and settings.num_samples > 1:
        raise UserError(
            f"option '--greedy' gives the same completion each time, so -k must be 1, got {settings.num_samples}; "
            "leave --greedy out, or pass -k 1"
        )
    _refuse_twice([task.name for task in settings.tasks])
    if settings.examples is not None and (settings.template is None or not get_template(settings.template).num_examples):
        raise UserError(
            f"option '--examples': only few_shot shows examples, so {settings.examples!r} would be ignored; "
            "pass --template few_shot:8, or leave it out"
        )
    if max(settings.token_budgets) > settings.max_completion_tokens:
        raise UserError(
            f"option '--budgets': {max(settings.token_budgets)} is more than the {settings.max_completion_tokens} tokens that a "
            f"completion may have; pass --max-completion-tokens {max(settings.token_budgets)}, or leave it out"
        )
    return settings


def _refuse_twice(names: Sequence[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"option '--tasks': {twice[0]!r} is named twice; evaluate its other problems with a command of their own")
