"""One run from its configuration to its summary: start the workers, train, clean up whatever happens."""

import contextlib
import time
from pathlib import Path

from rich.console import Console

from r1.checkpoint import point_latest
from r1.config import RunConfig
from r1.console import RunConsole
from r1.curves import draw_curves
from r1.disk_estimate import check_disk
from r1.errors import RunError, UserError
from r1.files import written
from r1.loop import Trainer, train
from r1.metrics import MetricsLogger, read_metrics
from r1.preflight import Prepared, prepare
from r1.run_folder import begin_run, changed_options, evaluated_steps, find_checkpoint, removed_unless_begun
from r1.run_lock import locked
from r1.run_mirror import RunMirror
from r1.run_output import RunOutput
from r1.run_place import RunPlace, folder_of_new, new_place, resumed_place, storage_of
from r1.runtime.cluster import Resources, connected
from r1.runtime.learner_group import LearnerGroup
from r1.runtime.node_checks import check_nodes
from r1.runtime.placement import cpus_of, placed
from r1.runtime.reward_pool import RayScorer
from r1.runtime.rollout_pool import RolloutPool
from r1.runtime.run_record import RunRecord
from r1.runtime.weight_sync import WeightSync
from r1.runtime.whereabouts import Roster
from r1.shm_weights import new_buffer_path
from r1.stopping import Stop, Stopped, stopped_by_signals
from r1.summary import before_after_table
from r1.trace_choice import TraceChoice
from r1.types import Progress

MAX_BAD_ROWS_SHOWN = 5


def run(
    config: RunConfig, *, resume: str | Path | None = None, anew: bool = False, console: Console | None = None
) -> Path:
    """Train as configured and return the run folder.

    resume: a run folder, or the URL of a run, to go on in from its last checkpoint; `config.run_dir` is ignored then.
    anew: of a folder that has no checkpoint: from the beginning, in that folder.
    A run at a URL works in a folder of this node, which is returned, and gone once all is sent.
    Raises `UserError` before anything is started or written when the configuration cannot work, `RunError` when the run
    cannot go on, and `Stopped` after Ctrl-C or SIGTERM, with a checkpoint of the last step. However it ends (a second Ctrl-C
    and SIGKILL included), no process that it started and no shared-memory file is left; after a SIGKILL two agents of Ray's
    stay for some two minutes.
    """
    output, started_s = RunOutput(console or Console()), time.time()
    storage = storage_of(config, resume)
    if resume is None:
        prepared = prepare(config)
        check_disk(config, folder_of_new(config, storage))
        place = new_place(config, storage)
        with locked(place.folder, output.say):
            _run_in(place, None, None, config, prepared, output, started_s)
            place.remove_scratch()
    else:
        place = resumed_place(resume, storage)
        with locked(place.folder, output.say):
            checkpoint = None if anew else find_checkpoint(place.folder, config)
            if checkpoint:
                point_latest(checkpoint[0])
            resumed_from, prepared = checkpoint[1] if checkpoint else Progress(), prepare(config)
            check_disk(config, place.folder)
            _run_in(place, checkpoint, resumed_from, config, prepared, output, started_s)
            place.remove_scratch()
    return place.folder


def _run_in(
    place: RunPlace,
    checkpoint: tuple[Path, Progress] | None,
    resumed_from: Progress | None,
    config: RunConfig,
    prepared: Prepared,
    output: RunOutput,
    started_s: float,
) -> None:
    faults, stop, run_dir = output.faults, Stop(), place.folder
    _say_problems(output, config, prepared)
    if checkpoint:
        for change in changed_options(checkpoint[0], config):
            output.say(f"changed since the checkpoint: {change}")
    # In this order: the shared file is removed once Ray has ended the learner that writes it, and signals are set up again
    # after ray.init, which installs a SIGTERM handler of its own.
    with (
        removed_unless_begun(run_dir, config),
        # Left when all others have ended, and their files are whole.
        RunMirror(place, faults) as mirror,
        # Before the engines: a tracker that cannot start shall not cost the minutes of their start.
        MetricsLogger(run_dir, config, faults) as logger,
        contextlib.ExitStack() as cleanup,
        stopped_by_signals(stop),
        connected(cpus_of(config)),
        stopped_by_signals(stop),
        placed(config, output.say) as placement,
    ):
        start = time.perf_counter()
        check_nodes(config, None if place.storage else run_dir, place.storage)
        weights = WeightSync(
            verify=config.sync.verify == "on",
            deadline_s=config.deadline_s,
            say=output.say,
        )
        sampler = RolloutPool(config, placement.rollout, faults, weights)
        learner = LearnerGroup(
            config,
            placement.learner,
            run_dir,
            new_buffer_path(),
            faults,
            beside=sampler,
            storage=place.storage,
            send_checkpoint=mirror.send_checkpoint,
        )
        weights.learner = learner
        cleanup.callback(learner.close)
        # Its children do the work; asking for no CPU lets a two-core machine run everything.
        resources = Resources(num_cpus=0, group=placement.rollout.group)
        task, by_task = prepared.task, prepared.rewarding_by_task()
        scorer = RayScorer(config, task.rewards, task.correctness, resources, faults, beside=sampler, by_task=by_task)
        sampler.on_group, sampler.on_cut_off = scorer.submit, scorer.drop
        num_workers = config.rollout.num_workers
        output.say(f"starting {num_workers} rollout worker(s), the learner and the reward pool ...")
        scorer.wait_until_ready()
        learner.wait_until_ready()
        if checkpoint:
            learner.restore(*checkpoint)
        sampler.wait_until_ready()
        output.say(f"ready after {time.perf_counter() - start:.0f} s")
        roster = Roster(
            lambda: [(worker.name, worker.at) for worker in (*sampler.workers.values(), *learner.workers, scorer.worker)],
            output.say,
        )
        roster.look()
        trainer = Trainer(
            config=config,
            correctness={name: task.correctness for name, task in prepared.tasks.items()},
            prompts=lambda progress, num_prompts: prepared.problems.train.batch(
                progress, num_prompts=num_prompts, group_size=config.rollout.group_size
            ),
            sampler=sampler,
            scorer=scorer,
            learner=learner,
            stop=stop,
        )
        record = RunRecord(
            config=config,
            heldout=prepared.problems.heldout,
            place=place,
            output=output,
            started_s=started_s,
            logger=logger,
            mirror=mirror,
            weights=weights,
            roster=roster,
        )
        _train_and_report(trainer, record, resumed_from)


def _train_and_report(trainer: Trainer, record: RunRecord, resumed_from: Progress | None) -> None:
    config, place, output = record.config, record.place, record.output
    run_dir = place.folder
    begin_run(run_dir, config)
    if resumed_from:
        record.rewind(resumed_from.step)
        output.say(f"going on after step {resumed_from.step} of {place.name}")
    ended, errors = "finished", list[str]()
    try:
        with RunConsole(config, output, read_metrics(run_dir)) as shown:
            observer = record.observer(trainer, shown)
            train(trainer, observer, start=resumed_from or Progress(), evaluated=evaluated_steps(run_dir))
    except Stopped as stopped:
        stopped.run, ended = place.name, str(stopped)
        raise
    except BaseException as error:  # a second Ctrl-C as well: the summary of an unfinished run says how it ended
        ended = f"{type(error).__name__}: {error}"
        errors.append(ended)
        raise
    finally:
        try:
            summary = record.summarize(ended, errors)
        except (UserError, RunError) as error:  # a damaged record, or a full disk, must not hide how the run ended
            if ended == "finished":
                raise
            output.say(f"no summary.json: {error}", style="yellow")
    output.print(before_after_table(summary))
    with written("curves.png"):
        draw_curves(run_dir)
    command = TraceChoice.parse(config.logging.traces).show_command(place.name, config.num_steps)
    output.say(f"summary, curves and traces are in {place.name}; look at the samples with: {command}")


def _say_problems(output: RunOutput, config: RunConfig, prepared: Prepared) -> None:
    rollout, problems = config.rollout, prepared.problems
    lines = problems.describe(MAX_BAD_ROWS_SHOWN)
    evaluated = problems.heldout.describe() if problems.heldout else "off"
    lines.append(
        f"{config.num_steps} steps of {rollout.num_prompts} prompts x {rollout.group_size} completions x at most "
        f"{rollout.max_completion_tokens} tokens, {config.learner.minibatches_per_step} update(s) a step; held-out: {evaluated}"
    )
    for line in lines:
        output.say(line)
