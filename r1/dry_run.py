"""`python -m launch.train CONFIG --dry-run`: what a run would do, checked and reckoned, with nothing started or written."""

import math
from collections import Counter
from collections.abc import Sequence

from r1.batch_arithmetic import BatchArithmetic, batch_arithmetic, batch_lines
from r1.cli.printing import printable
from r1.config import RunConfig
from r1.config_text import config_lines
from r1.disk_estimate import checkpoint_bytes
from r1.errors import UserError
from r1.memory_estimate import (
    FLOAT32,
    GIB,
    EngineMemory,
    LearnerMemory,
    ModelShape,
    engine_memory,
    learner_memory,
    microbatch_tokens,
    model_shape,
)
from r1.preflight import Prepared, prepare
from r1.prompts import get_template
from r1.rollout.engine import COLOCATED_GPU_SHARE, GPU_SHARE
from r1.run_place import place_lines
from r1.scoring_rules import FORMAT_GATE
from r1.sizes import size
from r1.types import Progress, Prompt

NUM_PROMPTS = 3
MAX_BAD_ROWS = 5
MAX_CHARACTERS = 2_000
"""Of a prompt that is shown; a few-shot one is longer than anybody reads."""
RANKS_PER_NODE = 8
EXAMPLE_GPU_GIB = 80
"""Of the GPU that a cache is reckoned for: an A100 or H100."""
HEALTHY_BFLOAT16 = 0.03
"""Mean |old - rollout| log-probability in bfloat16 (r1/config.py); a bound below it ends every run."""


def dry_run(config: RunConfig) -> list[str]:
    """Check everything that can be checked before a run, and return the report; raises `UserError` as the run would."""
    prepared = prepare(config)
    where = place_lines(config)
    devices = device_lines(config)
    tasks = prepared.problems.train.tasks
    counts = batch_arithmetic(config, tasks=tasks, num_evaluated=num_evaluated_completions(prepared))
    shape = model_shape(config.model.path, config.learner.lora_rank)
    learner, engine = learner_memory(shape, config), engine_memory(shape, config)
    return [
        "dry run: nothing is started, nothing is written",
        *_section("configuration", config_lines(config)),
        *_section("task", task_lines(config, prepared)),
        *_section("batch", batch_lines(config, counts, tasks)),
        *_section("devices", devices),
        *_section("memory of each device: estimates (r1/memory_estimate.py says what they leave out)", []),
        *_indented(memory_lines(config, shape, learner, engine)),
        *_section("prompts: the first of step 1", prompt_lines(first_prompts(config, prepared))),
        *_section("written", [*where, *written_lines(config, counts, shape)]),
        *_section("look at this", warnings(config, prepared, counts)),
    ]


def task_lines(config: RunConfig, prepared: Prepared) -> list[str]:
    """Problems, rewards and template."""
    lines = prepared.problems.describe(MAX_BAD_ROWS)
    longest = max(len(prompt.token_ids) for stream in prepared.problems.train.streams for prompt in stream.prompts)
    lines.append(f"longest prompt: {longest:,} of at most {config.rollout.max_prompt_tokens:,} tokens")
    for task in prepared.tasks.values():
        is_gated = "reasoning_format" in task.rewards and config.scoring.format_gates_accuracy
        rewards = ", ".join(f"{weight:g} x {name}" for name, weight in task.rewards.items())
        gate = ", paid only in the right format" if is_gated else ""
        lines.append(f"rewards of {task.name}: {rewards}; accuracy is {task.correctness}{gate}")
    heldout = prepared.problems.heldout
    lines.append(f"an evaluation: {heldout.describe() if heldout else 'none'}")
    lines.append(f"template {config.task.template}, final answer: {get_template(config.task.template).answer_form}")
    return lines


def num_evaluated_completions(prepared: Prepared) -> int:
    """Of one evaluation."""
    heldout = prepared.problems.heldout
    return sum(len(batch.prompts) * batch.group_size for batch in heldout.batches(0, 0)) if heldout else 0


def device_lines(config: RunConfig) -> list[str]:
    """What Ray will be asked for. Raises `UserError` for what works neither on GPUs nor on CPUs, or not on those here."""
    import torch

    from r1.runtime.placement import plan_placement  # imports ray, and starts nothing

    rollout, num_ranks = config.rollout, config.learner.num_ranks
    # plan_placement shares devices on a cluster with a single GPU: here it is asked for what a larger one would do.
    num_engine_gpus = rollout.num_workers * rollout.tensor_parallel_size
    num_gpus = num_engine_gpus if rollout.placement == "colocated" else num_engine_gpus + num_ranks
    lines = []
    for name, gpus in (("on GPUs", num_gpus), ("without a GPU", 0)):
        try:
            bundles = plan_placement(config, gpus).bundles
        except UserError as error:
            if not gpus or torch.cuda.is_available():
                raise
            lines.append(f"{name}: refused: {error}")
            continue
        wants = Counter((str(bundle), bundle.holds) for bundle in bundles)
        lines.append(f"{name}: {', '.join(f'{count} x {text} ({holds})' for (text, holds), count in wants.items())}")
    if rollout.placement is None:
        try:
            plan_placement(config, 1)
            lines.append("on a single GPU: engine and learner share it, and take turns")
        except UserError as error:
            lines.append(f"on a single GPU: refused: {error}")
    return lines


def memory_lines(config: RunConfig, shape: ModelShape, learner: LearnerMemory, engine: EngineMemory) -> list[str]:
    """The estimates in words, and the smallest GPU that holds them."""
    rollout = config.rollout
    trained = "all trained" if not config.learner.lora_rank else f"{shape.trained_parameters:,} of an adapter trained"
    parts = [(name.replace("_", " "), getattr(learner, name)) for name in LearnerMemory.__dataclass_fields__]
    completion_tokens = rollout.max_prompt_tokens + rollout.max_completion_tokens
    colocated = rollout.placement == "colocated"
    share = COLOCATED_GPU_SHARE if colocated else GPU_SHARE
    room = EXAMPLE_GPU_GIB * GIB * share - engine.weights - engine.working
    single = ""
    if rollout.placement is None:
        single = f", or a single one {size(smallest_gpu(learner, engine, colocated=True))}, shared by turns"
    num_whole = max(0, int(room // engine.cache_per_completion))
    return [
        f"model: {shape.num_parameters:,} parameters, {trained}",
        f"a learner rank: {size(learner.peak)} in an update, {size(learner.kept)} while engines sample ("
        + ", ".join(f"{name} {size(value)}" for name, value in parts if value)
        + f"; a micro-batch of {microbatch_tokens(config):,} tokens)",
        f"an engine's device: weights {size(engine.weights)}, its own activations {size(engine.working)}, "
        f"cache {size(engine.cache_per_token)} a token, "
        f"{size(engine.cache_per_completion)} a completion of {completion_tokens:,} tokens, "
        f"{size(engine.cache_wanted)} for all that may run at once, each of full length",
        f"a GPU of {EXAMPLE_GPU_GIB} GiB: the engine takes {share:g} of it, its cache holds {num_whole:,} completions "
        "of full length",
        f"so each GPU needs at least {size(smallest_gpu(learner, engine, colocated=colocated))}"
        f"{', shared by turns' if colocated else ''}"
        f"{single}; a run on CPUs the sum over its processes",
        f"CPU memory at the start: each learner rank reads the model in float32, {size(FLOAT32 * shape.num_parameters)}, all "
        f"ranks of a node at once ({size(FLOAT32 * shape.num_parameters * min(RANKS_PER_NODE, config.learner.num_ranks))} for "
        f"{min(RANKS_PER_NODE, config.learner.num_ranks)})",
    ]


def smallest_gpu(learner: LearnerMemory, engine: EngineMemory, *, colocated: bool) -> float:
    """Bytes of the smallest GPU that holds a rank, and an engine with the cache of one completion.

    Colocated, the engine sleeps during updates, and what the learner keeps while it samples has the engine's other half.
    """
    least_engine = engine.weights + engine.working + engine.cache_per_completion
    if not colocated:
        return max(learner.peak, least_engine / GPU_SHARE)
    return max(learner.peak, learner.kept / (1 - COLOCATED_GPU_SHARE), least_engine / COLOCATED_GPU_SHARE)


def first_prompts(config: RunConfig, prepared: Prepared) -> Sequence[Prompt]:
    """What step 1 begins with."""
    num_prompts = min(NUM_PROMPTS, config.rollout.num_prompts)
    return prepared.problems.train.batch(Progress(), num_prompts=num_prompts, group_size=config.rollout.group_size).prompts


def prompt_lines(prompts: Sequence[Prompt]) -> list[str]:
    """Each prompt as the policy gets it, line by line behind a bar, and what its reference is."""
    lines = []
    for number, prompt in enumerate(prompts, start=1):
        left = len(prompt.text) - MAX_CHARACTERS
        shown = prompt.text if left <= 0 else f"{prompt.text[:MAX_CHARACTERS]} ... {left:,} characters more"
        lines.append(f"{number}: {len(prompt.token_ids):,} tokens, reference {dict(prompt.problem.reference)}")
        # Not splitlines: it also breaks at characters that `printable` shows as their codes.
        lines += [f"  | {line}" for line in printable(shown).split("\n")]
    return [printable(line) for line in lines]


def written_lines(config: RunConfig, counts: BatchArithmetic, shape: ModelShape) -> list[str]:
    """The files of the run, and how large its checkpoints are."""
    trackers = "".join(f"{name}/, " for name in config.logging.trackers)
    return [
        f"config.json, metrics.jsonl, {trackers}traces/, summary.json, curves.png",
        f"checkpoints/: {counts.checkpoints:,} of about {size(checkpoint_bytes(config, shape))} each, of which the last three "
        "and the best are kept",
    ]


def warnings(config: RunConfig, prepared: Prepared, counts: BatchArithmetic) -> list[str]:
    """What is allowed, and hardly meant."""
    found = []
    learner = config.learner
    if learner.warmup_steps > counts.all_updates:
        found.append(
            f"learner.warmup_steps = {learner.warmup_steps:,} is more than the run's {counts.all_updates:,} updates: the "
            "learning rate never gets to its value"
        )
    is_half = config.dtype == "bfloat16"
    if is_half and config.sync.verify == "on" and config.sync.max_logprob_diff <= HEALTHY_BFLOAT16:
        found.append(
            f"sync.max_logprob_diff = {config.sync.max_logprob_diff:g} will stop a run in bfloat16, where {HEALTHY_BFLOAT16} is "
            "healthy; 0.06 is a bound"
        )
    if learner.max_tokens_per_microbatch < counts.longest_row:
        found.append(
            f"learner.max_tokens_per_microbatch = {learner.max_tokens_per_microbatch:,} is below the longest row of "
            f"{counts.longest_row:,} tokens: such a row is a micro-batch of its own, and the memory above is for it"
        )
    for option, every in (("evaluate.every", config.evaluate.every), ("checkpoint.every", config.checkpoint.every)):
        if every > config.num_steps:
            found.append(f"{option} = {every:,} is more than the run's {config.num_steps:,} steps: only the end is due")
    asks = get_template(config.task.template).asks_for_thinking
    for task in prepared.tasks.values():
        if FORMAT_GATE in task.rewards and config.scoring.format_gates_accuracy and not asks:
            found.append(
                f"{task.name}: without its format a right answer earns nothing, and template {config.task.template} does not "
                "name <think>: only a model that writes the tags by itself is paid; scoring.format_gates_accuracy=false adds "
                "the two"
            )
    for trained in prepared.problems.train.tasks:
        taken = math.ceil(counts.prompts_begun * trained.share)
        if taken > trained.num_problems:
            found.append(f"{trained.name}: a step takes {taken:,} of {trained.num_problems:,} problems: some come twice in it")
    return found


def _section(title: str, lines: Sequence[str]) -> list[str]:
    """A heading and what stands under it; a section of warnings without any is left out."""
    if not lines and title == "look at this":
        return []
    return ["", title, *_indented(lines)]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" if line else "" for line in lines]
