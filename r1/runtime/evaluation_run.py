"""One evaluation from its settings to its table: rollout workers without a learner, one chunk of problems after another.

    problems -> chunk -> rollout workers -> reward pool -> OUT/traces/heldout-00000n.parquet, and the next chunk
    trace files -> metrics -> results.json

A chunk whose file is there is never sampled again, and nothing but the files is counted: an evaluation that was killed and
goes on ends with the numbers of one that was not.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console

from r1.cli.printing import new_console
from r1.errors import UserError
from r1.evaluate import evaluate
from r1.evaluation.majority import MATH, MathAnswers, never_the_same
from r1.evaluation.metrics import TaskMetrics, pass_rates, task_metrics
from r1.evaluation.problems import Chunk, TaskPrompts, chunks_of, load_prompts
from r1.evaluation.report import (
    CURVE,
    PASS_RATES,
    RESULTS,
    budget_table,
    draw_budget_curves,
    metrics_table,
    results_of,
    write_json,
)
from r1.evaluation.samples import EvaluatedProblem, read_problems
from r1.evaluation.settings import EvaluationSettings, engine_config, save_settings
from r1.faults import FaultLog
from r1.preflight import load_tokenizer
from r1.runtime.cluster import Resources, connected, kill
from r1.runtime.placement import placed
from r1.runtime.reward_pool import RayScorer
from r1.runtime.rollout_pool import RolloutPool
from r1.runtime.run import interruptible
from r1.seeds import derive_seed
from r1.traces import list_trace_files, write_traces
from r1.types import PromptBatch, RolloutGroup

SAY_EVERY_S = 30.0
"""How often progress within a chunk becomes a line where the console is no terminal."""


def run_evaluation(settings: EvaluationSettings, out: Path, *, is_resumed: bool = False, console: Console | None = None) -> None:
    """Evaluate as the settings say, write everything into `out`, and print the table.

    Raises `UserError` before anything is started or written when the settings cannot work, and `RunError` when the
    evaluation cannot go on; what it has finished by then stays, for `is_resumed`.
    """
    say = Say(console or new_console())
    tokenizer = load_tokenizer(engine_config(settings))
    if settings.template is None:
        settings = settings.model_copy(update={"template": "chat" if tokenizer.chat_template else "r1_zero"})
    tasks = load_prompts(settings, tokenizer)
    chunks = list(chunks_of(settings, tasks))
    if not is_resumed:
        _make_folder(out)
        save_settings(settings, out)
    finished = _finished(out, chunks)
    for task in tasks:
        say.line(
            f"task {task.task.name}: {len(task.prompts)} problems, {task.num_too_long} too long; {settings.num_samples} "
            f"completions each, of at most {settings.max_completion_tokens} tokens, template {settings.template}"
        )
    if finished:
        say.line(f"{len(finished)} of {len(chunks)} chunks are there already")
    progress = Progress(say=say, chunks=chunks)
    for chunk in chunks:
        if chunk.number in finished:
            progress.end_chunk(chunk, finished[chunk.number])
    if len(finished) < len(chunks):
        with _rollout_workers(settings, say) as (sampler, faults):
            _sample(settings, out, [chunk for chunk in chunks if chunk.number not in finished], sampler, faults, progress)
    _report(settings, out, tasks, chunks, say)


@dataclass(frozen=True, slots=True)
class Say:
    """Prints what is going on: file names and errors as they are, never as markup."""

    console: Console

    def line(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def fault(self, text: str) -> None:
        self.line(text, style="yellow")


@dataclass
class Progress:
    """How far it is: a line for each chunk, and while one is being sampled."""

    say: Say
    chunks: Sequence[Chunk]
    problems: dict[str, list[EvaluatedProblem]] = field(default_factory=dict)
    """Task -> those that are finished."""
    started_s: float = 0.0
    said_s: float = 0.0
    num_completions: int = 0
    """Sampled by this process; the next one as well."""
    num_tokens: int = 0

    def begin(self) -> None:
        self.started_s = self.said_s = time.monotonic()

    def on_group(self, chunk: Chunk, group: RolloutGroup) -> None:
        self.num_completions += len(group.completions)
        self.num_tokens += sum(len(completion.token_ids) for completion in group.completions)
        if time.monotonic() - self.said_s > SAY_EVERY_S:
            self._say(chunk, "begun")

    def end_chunk(self, chunk: Chunk, problems: Sequence[EvaluatedProblem]) -> None:
        self.problems.setdefault(chunk.task.task.name, []).extend(problems)
        if self.num_completions:
            self._say(chunk, "done")

    def _say(self, chunk: Chunk, state: str) -> None:
        self.said_s = time.monotonic()
        passed_s = max(1e-9, self.said_s - self.started_s)
        name, finished = chunk.task.task.name, self.problems.get(chunk.task.task.name, [])
        num_samples = sum(len(problem.samples) for problem in finished)
        accuracy = f", accuracy {sum(problem.num_right for problem in finished) / num_samples:.3f}" if num_samples else ""
        self.say.line(
            f"{name}: chunk {chunk.number} of {len(self.chunks)} {state}, {len(finished)} of {len(chunk.task.prompts)} problems"
            f"{accuracy}; {self.num_completions / passed_s:.1f} completions/s, {self.num_tokens / passed_s:.0f} tokens/s, "
            f"since {passed_s:.0f} s"
        )


@contextmanager
def _rollout_workers(settings: EvaluationSettings, say: Say) -> Iterator[tuple[RolloutPool, FaultLog]]:
    """Start the engines on the model's own weights, which they call policy version 0."""
    config = engine_config(settings)
    # In this order, as in a run: Ray installs a SIGTERM handler of its own.
    with (
        connected(settings.num_workers * settings.tensor_parallel_size),
        interruptible(),
        placed(config, say.line, has_learner=False) as placement,
    ):
        faults = FaultLog(say.fault)
        sampler = RolloutPool(config, placement.rollout, faults)
        start = time.monotonic()
        say.line(f"starting {settings.num_workers} rollout worker(s) ...")
        sampler.wait_until_ready()
        say.line(f"ready after {time.monotonic() - start:.0f} s")
        yield sampler, faults
        # At once: what comes next may want their devices.
        for worker in sampler.workers.values():
            kill(worker)


def _sample(
    settings: EvaluationSettings,
    out: Path,
    chunks: Sequence[Chunk],
    sampler: RolloutPool,
    faults: FaultLog,
    progress: Progress,
) -> None:
    """Sample, score and write the chunks, those of a task with its rewards."""
    config = engine_config(settings)
    progress.begin()
    for _, of_task in groupby(chunks, key=lambda chunk: chunk.task.task.name):
        chunks_of_task = list(of_task)
        task = chunks_of_task[0].task
        scoring = config.scoring.model_copy(update={"format_gates_accuracy": task.format_gates_accuracy})
        scorer = RayScorer(
            config.model_copy(update={"scoring": scoring}),
            task.task.rewards,
            task.task.correctness,
            Resources(num_cpus=0),
            faults,
            beside=sampler,
        )
        with ExitStack() as cleanup:
            cleanup.callback(scorer.close)
            scorer.wait_until_ready()
            for chunk in chunks_of_task:
                _sample_chunk(settings, out, chunk, sampler, scorer, progress)


def _sample_chunk(
    settings: EvaluationSettings, out: Path, chunk: Chunk, sampler: RolloutPool, scorer: RayScorer, progress: Progress
) -> None:
    task = chunk.task.task

    def on_group(group: RolloutGroup) -> None:
        scorer.submit(group)
        progress.on_group(chunk, group)

    sampler.on_group = on_group
    batch = PromptBatch(
        # Always 0: with group_id the place in the task, the seed of a sample is no matter of chunks or other tasks.
        step=0,
        prompts=tuple(chunk.prompts),
        group_size=settings.num_samples,
        policy_version=0,
        seed=derive_seed(settings.seed, "evaluate", task.name),
    )
    _, groups = evaluate([batch], sampler, scorer, task.correctness)
    assert settings.template is not None
    write_traces(out, chunk.number, groups, template=settings.template, split="heldout")
    progress.end_chunk(chunk, read_problems(out, [chunk.number], task.correctness))


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True)
    except FileExistsError as error:
        raise UserError(
            f"option '--out': {str(out)!r} exists already; choose another folder, or go on in it with --resume {out}"
        ) from error
    except OSError as error:
        raise UserError(f"option '--out': cannot create {str(out)!r}: {error.strerror}; choose another folder") from error


def _finished(out: Path, chunks: Sequence[Chunk]) -> dict[int, list[EvaluatedProblem]]:
    """The chunks whose files are there, by number; a `UserError` when they hold other problems than now."""
    files = list_trace_files(out, "heldout")
    finished = {}
    for chunk in chunks:
        if chunk.number in files:
            problems = read_problems(out, [chunk.number], chunk.task.task.correctness)
            if [problem.problem_id for problem in problems] != [prompt.problem.problem_id for prompt in chunk.prompts]:
                raise UserError(
                    f"option '--resume': {str(files[chunk.number])!r} holds other problems than the task "
                    f"{chunk.task.task.name!r} has now; start a new evaluation, or put its problems back"
                )
            finished[chunk.number] = problems
    return finished


def _report(
    settings: EvaluationSettings, out: Path, tasks: Sequence[TaskPrompts], chunks: Sequence[Chunk], say: Say
) -> dict[str, Any]:
    """Count what the trace files hold, write it, and print it."""
    metrics: dict[str, TaskMetrics] = {}
    rates = {}
    for of_task in tasks:
        task = of_task.task
        steps = [chunk.number for chunk in chunks if chunk.task is of_task]
        problems = read_problems(out, steps, task.correctness)
        rates[task.name] = pass_rates(problems)
        with ExitStack() as cleanup:
            deadline_s = engine_config(settings).scoring.deadline_s
            same = cleanup.enter_context(MathAnswers(deadline_s)) if task.correctness == MATH else never_the_same
            metrics[task.name] = task_metrics(problems, same, settings.token_budgets)
    results = results_of(settings, metrics, {of_task.task.name: of_task.num_too_long for of_task in tasks})
    curves = {name: of_task.budget_curve for name, of_task in metrics.items()}
    write_json(out / PASS_RATES, rates)
    draw_budget_curves(curves, out / CURVE)
    write_json(out / RESULTS, results)
    say.console.print(metrics_table(metrics))
    say.console.print(budget_table(curves))
    say.line(f"results, curves and traces are in {out}; look at the samples with: r1 traces show {out} --heldout --step 1")
    return results
