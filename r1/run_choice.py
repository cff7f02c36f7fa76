"""`--continue`: which run a command goes on in, so that the same command starts a run, goes on with it, and starts the next."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from r1.checkpoint import has_checkpoint, latest_checkpoint
from r1.config import RunConfig
from r1.config_text import differing_options, saved_config
from r1.errors import UserError
from r1.run_folder import RUNS, STARTING, find_checkpoint, is_finished, path_of_run
from r1.run_lock import FILE as LOCK
from r1.run_lock import holder_of
from r1.run_place import is_begun_at, resumed_place, storage_of
from r1.storage import is_url

MAX_DIFFERENCES_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class RunChoice:
    """What the command is going to do."""

    says: str
    """In one line, for people."""
    run: str
    """The run's folder or URL."""
    is_begun: bool = False
    """Whether it goes on there, or begins there."""
    has_checkpoint: bool = False
    """Where it has begun: if not, it begins anew."""


def choose_run(config: RunConfig, runs: str | Path = RUNS) -> RunChoice:
    """Choose the place that `config.run_dir` names, or the newest unfinished run of this configuration below `runs`.

    A run is of this configuration if all options are equal but run_dir, and num_steps, which may have been raised.
    Raises `UserError` where the named place holds another run or a finished one, or where such a run is still going on.
    """
    if is_url(config.run_dir):
        return _at_url(str(config.run_dir), config)
    if config.run_dir is not None:
        return _in_folder(Path(config.run_dir).absolute(), config)
    begun, starting = (
        [run_dir for run_dir, saved in _saved_runs(Path(runs), name) if not _differences(saved, config)]
        for name in ("config.json", STARTING)
    )
    for run_dir in (*begun, *starting):
        if holder := holder_of(run_dir):
            raise UserError(
                f"option '--continue': {str(run_dir)!r}, a run of this configuration, is going on ({holder}); wait for it, stop "
                "it (it saves its last step), or give a run beside it a folder of its own: run_dir=FOLDER"
            )
    for run_dir in begun:
        if has_checkpoint(run_dir) and not is_finished(run_dir, latest_checkpoint(run_dir)[1], config):
            return _going_on(run_dir, str(run_dir))
    run_dir = path_of_run(config, time.strftime("%Y%m%d-%H%M%S"), runs)
    says = f"new run {run_dir}: there is no unfinished one of this configuration in {Path(runs).absolute()}"
    return RunChoice(says=says, run=str(run_dir))


def check_runs(runs: str) -> None:
    """Raise `UserError` for what is no folder of runs."""
    if is_url(runs):
        raise UserError(
            f"option '--runs': {runs!r} is no folder; a run in a bucket is named as a whole: run_dir={runs.rstrip('/')}/NAME"
        )


def _at_url(url: str, config: RunConfig) -> RunChoice:
    storage = storage_of(config, None)
    assert storage is not None, "run_dir is a URL"
    if not is_begun_at(storage):
        return RunChoice(says=f"new run {url}", run=url)
    return _of_saved(resumed_place(url, storage).folder, url, config)


def _in_folder(run_dir: Path, config: RunConfig) -> RunChoice:
    name = str(run_dir)
    if not run_dir.exists():
        return RunChoice(says=f"new run {name}", run=name)
    if not (run_dir / "config.json").is_file() and (run_dir / LOCK).is_file():  # it was killed while it started up
        return RunChoice(says=f"new run in {name}, where one had not begun yet", run=name, is_begun=True)
    return _of_saved(run_dir, name, config)


def _of_saved(run_dir: Path, name: str, config: RunConfig) -> RunChoice:
    """What to do with the run whose configuration and checkpoints are in `run_dir`. name: what a person calls it."""
    differences = _differences(saved_config(run_dir, option="run_dir"), config)
    if differences:
        more = len(differences) - MAX_DIFFERENCES_SHOWN
        shown = "; ".join([*differences[:MAX_DIFFERENCES_SHOWN], *([f"{more} more"] if more > 0 else [])])
        raise UserError(
            f"option 'run_dir': {name!r} holds a run of another configuration ({shown}); choose another place, or go on in it "
            f"all the same with --resume {name} and the options to change"
        )
    if not has_checkpoint(run_dir):
        return RunChoice(says=f"beginning anew in {name}: it has no checkpoint yet", run=name, is_begun=True)
    find_checkpoint(run_dir, config, option="run_dir")
    return _going_on(run_dir, name)


def _going_on(run_dir: Path, name: str) -> RunChoice:
    step = latest_checkpoint(run_dir)[1].step
    says = f"going on in {name} from its checkpoint of step {step}"
    return RunChoice(says=says, run=name, is_begun=True, has_checkpoint=True)


def _saved_runs(runs: Path, file: str) -> Iterator[tuple[Path, RunConfig]]:
    """The runs in a folder with the configurations in their `file`, the one that was started last first.

    Those of other people, which this user cannot write, are not among them.
    """
    found = {saved: _started_s(saved) for saved in runs.glob(f"*/{file}") if os.access(saved.parent, os.W_OK)}
    for saved in sorted(found, key=lambda saved: found[saved], reverse=True):
        try:
            yield saved.parent, saved_config(saved.parent, file=file)
        except UserError:
            continue  # damaged, or of a version with other options: no run of this configuration


def _started_s(saved: Path) -> float:
    try:
        return saved.stat().st_mtime
    except FileNotFoundError:  # a run that was starting has begun, or given up
        return 0.0


def _differences(saved: RunConfig, config: RunConfig) -> list[str]:
    """"option: saved -> now" for each option that makes another run of it."""
    return [
        f"{name}: {then} -> {now}"
        for name, then, now in differing_options(saved, config)
        if name != "run_dir" and not (name == "num_steps" and config.num_steps > saved.num_steps)
    ]
