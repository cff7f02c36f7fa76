"""The configuration of a run: TOML file + dotted overrides -> one checked, frozen object.

Every option stands here once, with its unit and its rule. Errors are `UserError`s of one line.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from r1.config_overrides import apply_overrides, with_preset
from r1.config_secrets import refuse_secrets
from r1.errors import UserError
from r1.trace_choice import TraceChoice

Dtype = Literal["float32", "bfloat16"]
Count = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A frozen table of options that refuses unknown keys and silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelConfig(Section):
    path: str
    """Folder with Hugging Face files (config.json, *.safetensors, tokenizer), or a hub name."""


class OtherTask(Section):
    """A task beside the first one: [task.mix.math], or [task.mix."math:3-5"]."""

    weight: Annotated[float, Field(ge=0, le=1000)]
    """Prompts of this task for each one of task.name; 0: it is not trained on, but evaluated. Exact to a thousandth."""
    path: str | None = None
    """As task.path; so is the next one."""
    heldout_path: str | None = None


class TaskConfig(Section):
    name: str
    """A key of tasks.TASKS, with an argument where the task takes one: math:3-5, reasoning_gym:leg_counting."""
    path: str | None = None
    """The training problems: a local file or a hub name; unset: generated, or the published data set, as the task has it."""
    heldout_path: str | None = None
    """The held-out problems; unset: the hub's own test split, or a fixed share of a local file, chosen by hash."""
    question_field: str | None = None
    """The field of a row that holds the question; unset: where the published data have it."""
    answer_field: str | None = None
    """The field with the gold answer, in the same way."""
    mix: dict[str, OtherTask] = {}
    """Tasks that are trained on or evaluated besides, by name; rewards and the fields above are their own."""
    difficulty: str | None = None
    """What measured pass rates choose: learnable:FILE leaves out what the policy always or never solves, easy_first:FILE puts
    the rest in the order of falling pass rates. FILE: the pass_rates.json of a `launch.evaluate --split train`."""
    template: str = "plain"
    """A key of r1.prompts.TEMPLATES, with an argument where it takes one (few_shot:4), or a .txt or .toml file of your own."""
    rewards: Annotated[dict[str, float], Field(min_length=1)] | None = None
    """Reward name, or path/to/file.py:function -> weight, in place of the task's own: {"math_answer" = 1.0}. The one that
    tells right from wrong, reported as accuracy, is the task's own where it is among them, else the first."""


class RolloutConfig(Section):
    engine: str = "r1.rollout.vllm_engine:VllmEngine"
    """module:Class of the engine; r1.rollout.transformers_engine:TransformersEngine where vLLM has no wheel."""
    num_workers: Count = 1
    """Rollout workers, an engine each."""
    tensor_parallel_size: Count = 1
    """GPUs that share one engine's weights."""
    placement: Literal["disaggregated", "colocated"] | None = None
    """Whether engines and learner have devices of their own, or share them and take turns; unset: they share a single GPU."""
    max_staleness: Annotated[int, Field(ge=0)] = 0
    """Versions by which the policy that samples may be behind the learner. 0: they take turns; more: they work at once."""
    num_prompts: Count
    """Prompts per step."""
    group_size: Annotated[int, Field(ge=2)]
    """Completions per prompt. GRPO compares siblings, so at least 2."""
    max_prompt_tokens: Count
    """Longer prompts are left out, and counted."""
    max_completion_tokens: Count
    temperature: PositiveFloat = 1.0
    oversampling: Annotated[float, Field(ge=1)] = 1.0
    """Prompts that are begun for each one that is needed; the first to be finished count, the rest is cut off."""
    max_num_seqs: Count = 256
    """Completions that one engine decodes at the same time."""


class AlgorithmConfig(Section):
    """`algorithm=dr_grpo` takes a preset of r1.presets instead; `algorithm.preset=dr_grpo` with options beside it."""

    zero_variance: Literal["keep", "drop", "resample"] = "keep"
    """Groups whose rewards are all equal have no advantage. They stay in the loss's counts, leave them, or are replaced by
    sampling on (DAPO's dynamic sampling)."""
    advantage: str = "grpo"
    """A key of r1.algorithm.ADVANTAGES; the next three of LOSSES, AGGREGATIONS and KL_ESTIMATORS."""
    loss: str = "clip"
    aggregation: str = "sequence_mean"
    kl_estimator: str = "k3"
    kl_coef: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL to the reference policy in the loss; 0 loads no reference model."""
    reference_every: Annotated[int, Field(ge=0)] = 0
    """Steps after which the policy becomes the reference policy (R1-Zero: 400 updates, 25 steps of 16); 0: the start stays
    the reference."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    clip_high: PositiveFloat = 0.2
    entropy_coef: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the entropy bonus, which is subtracted from the loss."""
    correction: Annotated[str, Field(pattern=r"^[a-z_]+(:\d+(\.\d+)?)?$")] = "none"
    """A key of r1.algorithm.CORRECTIONS: how the mismatch of engine and learner is made up for. With rollout.max_staleness the
    default is token_truncate. The bound on the ratio of both may follow: token_truncate:2.0; for `sequence_mask` much nearer to
    1, see r1/algorithm/importance.py."""
    overlong_filtering: bool = False
    """Truncated completions leave the loss; their rewards stay in the baseline."""


class LearnerConfig(Section):
    lora_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of the adapters (LoRA) that are trained in place of the weights, which stay frozen; 0 trains all weights."""
    learning_rate: PositiveFloat
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer updates over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: linear and cosine fall to 0 at the end of the run."""
    minibatches_per_step: Count = 1
    """Optimizer updates per step, each on its share of the step's prompts."""
    old_logprobs: Literal["recompute", "rollout"] = "recompute"
    """What the ratio of the loss is taken to: the learner's own log-probabilities before the step, or the engine's."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: a third more arithmetic for a fraction of the memory."""
    num_ranks: Count = 1
    """Learner processes that share model and batch (FSDP2): gloo on CPUs, NCCL on GPUs."""
    max_tokens_per_microbatch: Count = 16384
    """Upper bound on rows x longest row, padding included, in one forward pass."""


class SyncConfig(Section):
    verify: Literal["on", "off"] = "on"
    """off skips the checks of a weight sync; only for showing what they catch."""
    in_flight: bool = False
    """With rollout.max_staleness: load weights in the middle of completions instead of waiting for them to end."""
    max_logprob_diff: PositiveFloat = 1e-4
    """Bound on mean |old - rollout| log-probability of a step. Measured: 3e-7 in float32, 0.03 in bfloat16."""


class ScoringConfig(Section):
    deadline_s: PositiveFloat = 2.0
    """Longest time for all reward functions of one completion, seconds; then the process is killed."""
    format_gates_accuracy: bool = True
    """Whether the correctness reward earns nothing for a completion whose reasoning_format is 0."""


class EvaluateConfig(Section):
    num_completions: Annotated[int, Field(ge=0)] = 256
    """Held-out completions of each task, at the rollout temperature: one a problem, or several where it has fewer problems
    (AIME's 30 get 8 each); 0 switches evaluation off."""
    every: Annotated[int, Field(ge=0)] = 0
    """Steps between evaluations; 0 evaluates only before the first and after the last step."""


class CheckpointConfig(Section):
    every: Annotated[int, Field(ge=0)] = 0
    """Steps between checkpoints; 0 saves only at the end. The last three are kept, and the one of the best accuracy."""


class LoggingConfig(Section):
    trackers: list[str] = ["tensorboard"]
    """Where scalars go besides metrics.jsonl: keys of r1.tracker_backends.TRACKERS (docs/trackers.md)."""
    traces: str = "tokens"
    """What is stored of each completion: tokens (with what engine and learner computed of each) or text; with a share of each
    training step's groups where not all are wanted: text:0.1."""

    @field_validator("traces")
    @classmethod
    def _is_known(cls, traces: str) -> str:
        TraceChoice.parse(traces)
        return traces


class RunConfig(Section):
    """Everything that a run depends on besides the code."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Part of the run folder's name: letters, digits, dot, dash, underscore."""
    run_dir: str | None = None
    """Where the run writes: a folder, or a URL such as s3://bucket/run (docs/storage.md); unset: runs/NAME-YYYYMMDD-HHMMSS. It
    must not exist."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    num_steps: Count
    deadline_s: PositiveFloat = 600.0
    """Longest time for any one phase (starting a worker, sampling a group, an update, a part of a sync, a save), seconds."""
    dtype: Dtype = "float32"
    """What engines and learner compute with, and what a weight sync ships; master weights and optimizer state are float32."""
    num_threads: Count = 2
    """OpenMP threads of each rollout worker and learner rank."""
    model: ModelConfig
    task: TaskConfig
    rollout: RolloutConfig
    algorithm: AlgorithmConfig = AlgorithmConfig()
    learner: LearnerConfig
    sync: SyncConfig = SyncConfig()
    scoring: ScoringConfig = ScoringConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    logging: LoggingConfig = LoggingConfig()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a TOML file, apply overrides such as `learner.learning_rate=1e-4`, and check the result."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"config file {str(path)!r} does not exist; give the path of a .toml file, e.g. launch/configs/quickstart.toml"
        )
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows' editors begin with a mark
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"config file {str(path)!r} is not valid TOML: {error}") from error
    return check_config(apply_overrides(tree, overrides))


def check_config(tree: Mapping[str, Any]) -> RunConfig:
    """Turn a nested mapping into a `RunConfig`; the first broken rule becomes a `UserError`."""
    refuse_secrets(tree)  # first: other errors repeat the value
    try:
        config = RunConfig.model_validate(with_preset(tree))
    except ValidationError as error:
        # A misspelt option also makes the right one "missing": name the misspelling first.
        first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        raise UserError(_explain(first)) from error
    if config.rollout.max_staleness and "correction" not in config.algorithm.model_fields_set:
        algorithm = config.algorithm.model_copy(update={"correction": "token_truncate"})
        config = config.model_copy(update={"algorithm": algorithm})
    if config.sync.in_flight and not config.rollout.max_staleness:
        raise UserError(
            "sync.in_flight needs rollout.max_staleness of at least 1: in strict mode no completion is under way when weights "
            "are loaded; set rollout.max_staleness=1 or leave sync.in_flight out"
        )
    num_prompts, minibatches = config.rollout.num_prompts, config.learner.minibatches_per_step
    if num_prompts % minibatches:
        raise UserError(
            f"rollout.num_prompts must be a multiple of learner.minibatches_per_step: {num_prompts} prompts do not "
            f"divide into {minibatches} mini-batches; use {num_prompts - num_prompts % minibatches or minibatches} prompts"
        )
    return config


def _explain(error: Mapping[str, Any]) -> str:
    location = [str(part) for part in error["loc"]]
    option = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = _options_beside(location)
        close = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.4)
        remedy = f"did you mean {'.'.join([*location[:-1], close[0]])!r}?" if close else f"known here: {', '.join(known)}"
        return f"unknown option {option!r}: {remedy}"
    if error["type"] == "missing":
        return f"option {option!r} is missing: add it to the config file or pass {option}=VALUE"
    rule = error["msg"][0].lower() + error["msg"][1:]
    return f"option {option!r}: {rule}, got {error['input']!r}; see r1/config.py for its meaning and unit"


def _options_beside(location: Sequence[str]) -> list[str]:
    section: Any = RunConfig
    for part in location[:-1]:
        # Of task.mix, a table of tasks by name: the name is skipped.
        section = section.model_fields[part].annotation if hasattr(section, "model_fields") else get_args(section)[1]
    return list(section.model_fields)
