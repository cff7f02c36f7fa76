"""Chunks of prompts, sampled by rollout workers without a learner, scored, and written as trace files."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path

from r1.config import RunConfig
from r1.errors import UserError
from r1.evaluate import evaluate
from r1.evaluation.problems import Chunk
from r1.evaluation.progress import Progress, Say
from r1.evaluation.samples import EvaluatedProblem, as_stored, read_problems, read_prompts
from r1.faults import FaultLog
from r1.runtime.cluster import Resources, connected, kill
from r1.runtime.placement import placed
from r1.runtime.reward_pool import RayScorer
from r1.runtime.rollout_pool import RolloutPool
from r1.stopping import Stop, stopped_by_signals
from r1.traces import list_trace_files, write_traces
from r1.types import PromptBatch, RolloutGroup


def sample_missing(config: RunConfig, folder: Path, chunks: Sequence[Chunk], template: str, say: Say) -> None:
    """Sample and write the chunks that have no trace file in `folder` yet; where there is none, nothing is started.

    config: see r1.evaluation.settings.engine_config. Raises `UserError` when a file holds other problems than its chunk.
    """
    finished = _finished(folder, chunks)
    missing = [chunk for chunk in chunks if chunk.number not in finished]
    if finished:
        say.line(f"{len(finished)} of {len(chunks)} chunks are there already")
    progress = Progress(say=say, num_chunks=len(chunks))
    for chunk in chunks:
        if chunk.number in finished:
            progress.end_chunk(chunk, finished[chunk.number])
    if not missing:
        return
    with _rollout_workers(config, say) as (sampler, faults):
        progress.begin()
        for _, of_task in groupby(missing, key=lambda chunk: chunk.task.task.name):
            chunks_of_task = list(of_task)
            with closing(_scorer(config, chunks_of_task[0], faults, sampler)) as scorer:
                scorer.wait_until_ready()
                for chunk in chunks_of_task:
                    _sample_chunk(folder, chunk, template, sampler, scorer, progress)


@contextmanager
def _rollout_workers(config: RunConfig, say: Say) -> Iterator[tuple[RolloutPool, FaultLog]]:
    """Start the engines on the model's own weights, which they call policy version 0."""
    num_workers = config.rollout.num_workers
    # In this order, as in a run: Ray installs a SIGTERM handler of its own.
    with (
        connected(num_workers * config.rollout.tensor_parallel_size),
        stopped_by_signals(Stop()),
        placed(config, say.line, has_learner=False) as placement,
    ):
        faults = FaultLog(say.fault)
        sampler = RolloutPool(config, placement.rollout, faults)
        start = time.monotonic()
        say.line(f"starting {num_workers} rollout worker(s) ...")
        sampler.wait_until_ready()
        say.line(f"ready after {time.monotonic() - start:.0f} s")
        yield sampler, faults
        # At once: what comes next may want their devices.
        for worker in sampler.workers.values():
            kill(worker)


def _scorer(config: RunConfig, chunk: Chunk, faults: FaultLog, sampler: RolloutPool) -> RayScorer:
    """The reward pool of a chunk's task."""
    scoring = config.scoring.model_copy(update={"format_gates_accuracy": chunk.task.format_gates_accuracy})
    config = config.model_copy(update={"scoring": scoring})
    task = chunk.task.task
    # A chunk that cannot be written because 2 % of its scores failed would fail in the same way when it is resumed.
    return RayScorer(
        config, task.rewards, task.correctness, Resources(num_cpus=0), faults, beside=sampler, stops_on_errors=False
    )


def _sample_chunk(
    folder: Path, chunk: Chunk, template: str, sampler: RolloutPool, scorer: RayScorer, progress: Progress
) -> None:
    def on_group(group: RolloutGroup) -> None:
        scorer.submit(group)
        progress.on_group(chunk, group)

    sampler.on_group = on_group
    batch = PromptBatch(
        # Always 0: with group_id the place in the task, the seed of a sample is no matter of chunks or other tasks.
        step=0,
        prompts=tuple(chunk.prompts),
        group_size=chunk.group_size,
        policy_version=0,
        seed=chunk.seed,
    )
    correctness = chunk.task.task.correctness
    _, groups = evaluate([batch], sampler, scorer, correctness)
    write_traces(folder, chunk.number, groups, template=template, split="heldout")
    progress.end_chunk(chunk, read_problems(folder, [chunk.number], correctness))


def _finished(folder: Path, chunks: Sequence[Chunk]) -> dict[int, list[EvaluatedProblem]]:
    """The chunks whose files are there, by number."""
    files = list_trace_files(folder, "heldout")
    finished = {}
    for chunk in chunks:
        if chunk.number in files:
            if read_prompts(folder, chunk.number) != {prompt.group_id: as_stored(prompt) for prompt in chunk.prompts}:
                raise UserError(
                    f"option '--resume': {str(files[chunk.number])!r} holds other prompts or golds than the task "
                    f"{chunk.task.task.name!r} has now; start a new evaluation, or put its problems and its template back"
                )
            finished[chunk.number] = read_problems(folder, [chunk.number], chunk.task.task.correctness)
    return finished
