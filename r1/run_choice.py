"""`--continue`: which run a command goes on in, so that the same command starts a run, goes on with it, and starts the next."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from r1.checkpoint import has_checkpoint, latest_checkpoint
from r1.config import RunConfig
from r1.config_text import differing_options, saved_config
from r1.errors import UserError
from r1.run_folder import RUNS, find_checkpoint, is_finished, path_of_run
from r1.run_lock import FILE as LOCK
from r1.run_lock import holder_of

MAX_DIFFERENCES_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class RunChoice:
    """What the command is going to do."""

    says: str
    """In one line, for people."""
    run_dir: Path
    is_begun: bool = False
    """Whether it goes on in that folder, or makes it."""
    has_checkpoint: bool = False
    """Where it has begun: if not, it begins anew."""


def choose_run(config: RunConfig, runs: str | Path = RUNS) -> RunChoice:
    """Choose the folder that `config.run_dir` names, or the newest unfinished run of this configuration below `runs`.

    A run is of this configuration if all options are equal but run_dir, and num_steps, which may have been raised.
    Raises `UserError` where the named folder holds another run or a finished one, or where such a run is still going on.
    """
    if config.run_dir is not None:
        return _in_folder(Path(config.run_dir).absolute(), config)
    begun = [run_dir for run_dir, saved in _saved_runs(Path(runs)) if not _differences(saved, config)]
    for run_dir in begun:
        if holder := holder_of(run_dir):
            raise UserError(
                f"option '--continue': {str(run_dir)!r}, a run of this configuration, is going on ({holder}); wait for it, stop "
                "it (it saves its last step), or give a run beside it a folder of its own: run_dir=FOLDER"
            )
    for run_dir in begun:
        if has_checkpoint(run_dir) and not is_finished(run_dir, latest_checkpoint(run_dir)[1], config):
            return _going_on(run_dir)
    run_dir = path_of_run(config, time.strftime("%Y%m%d-%H%M%S"), runs)
    says = f"new run {run_dir}: there is no unfinished one of this configuration in {Path(runs).absolute()}"
    return RunChoice(says=says, run_dir=run_dir)


def _in_folder(run_dir: Path, config: RunConfig) -> RunChoice:
    if not run_dir.exists():
        return RunChoice(says=f"new run {run_dir}", run_dir=run_dir)
    if not (run_dir / "config.json").is_file() and (run_dir / LOCK).is_file():  # it was killed while it started up
        return RunChoice(says=f"new run in {run_dir}, where one had not begun yet", run_dir=run_dir, is_begun=True)
    differences = _differences(saved_config(run_dir, option="run_dir"), config)
    if differences:
        more = len(differences) - MAX_DIFFERENCES_SHOWN
        shown = "; ".join([*differences[:MAX_DIFFERENCES_SHOWN], *([f"{more} more"] if more > 0 else [])])
        raise UserError(
            f"option 'run_dir': {str(run_dir)!r} holds a run of another configuration ({shown}); choose another folder, or go on "
            f"in it all the same with --resume {run_dir} and the options to change"
        )
    if not has_checkpoint(run_dir):
        says = f"beginning anew in {run_dir}: it has no checkpoint yet"
        return RunChoice(says=says, run_dir=run_dir, is_begun=True)
    find_checkpoint(run_dir, config)
    return _going_on(run_dir)


def _going_on(run_dir: Path) -> RunChoice:
    step = latest_checkpoint(run_dir)[1].step
    says = f"going on in {run_dir} from its checkpoint of step {step}"
    return RunChoice(says=says, run_dir=run_dir, is_begun=True, has_checkpoint=True)


def _saved_runs(runs: Path) -> Iterator[tuple[Path, RunConfig]]:
    """The runs in a folder with their configurations, the one that was started last first."""
    for saved in sorted(runs.glob("*/config.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            yield saved.parent, saved_config(saved.parent)
        except UserError:
            continue  # damaged, or of a version with other options: no run of this configuration


def _differences(saved: RunConfig, config: RunConfig) -> list[str]:
    """"option: saved -> now" for each option that makes another run of it."""
    return [
        f"{name}: {then} -> {now}"
        for name, then, now in differing_options(saved, config)
        if name != "run_dir" and not (name == "num_steps" and config.num_steps > saved.num_steps)
    ]
