"""Train: `python -m launch.train CONFIG.toml [section.option=value ...]` or `python -m launch.train --resume RUN`.

With --continue the same command goes on where it was stopped. With --dry-run it says what it would do instead.
"""

import argparse
import shlex
import sys

from r1.cli.printing import printable_line
from r1.config import RunConfig, load_config
from r1.config_text import saved_config
from r1.errors import RunError, UserError
from r1.run_choice import check_runs, choose_run
from r1.run_folder import RUNS
from r1.run_place import folder_to_resume, storage_of
from r1.stopping import Stopped


def main() -> int:
    """Exit codes: 0 trained, 1 the run failed, 2 the configuration cannot work, 130 stopped by Ctrl-C, 143 by SIGTERM.

    The first signal ends the run with a checkpoint of its last step, the second one at once.
    """
    parser = argparse.ArgumentParser(prog="python -m launch.train", description="Train a model with GRPO.")
    parser.add_argument("config", nargs="?", help="a .toml file, e.g. launch/configs/quickstart.toml")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.option=value", help="e.g. num_steps=10 learner.learning_rate=1e-4"
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="go on in this run (folder or URL) from its last checkpoint, with its configuration"
    )
    parser.add_argument(
        "--continue",
        action="store_true",
        dest="goes_on",
        help="go on in the newest unfinished run of this configuration (num_steps may be raised), or in run_dir; begin a new run "
        "where there is none. It refuses to start beside such a run that is still going on",
    )
    parser.add_argument(
        "--runs", metavar="FOLDER", help=f"with --continue: where runs are looked for, and new ones made (default: {RUNS})"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check the configuration, print what the run would do and need, and start nothing"
    )
    arguments = parser.parse_intermixed_args()
    try:
        _check_options(arguments)
        config = _configuration(arguments.config, arguments.overrides, arguments.resume)
        if arguments.dry_run:
            from r1.dry_run import dry_run

            print("\n".join(dry_run(config)))
            return 0
        resume, anew = arguments.resume, False
        if arguments.goes_on:
            choice = choose_run(config, arguments.runs or RUNS)
            print(printable_line(choice.says), flush=True)
            config = config.model_copy(update={"run_dir": choice.run})
            resume, anew = (choice.run, not choice.has_checkpoint) if choice.is_begun else (None, False)
        storage_of(config, resume)  # storage that cannot be reached is said before the seconds of the next line
        from r1.runtime.run import run  # imports torch, transformers and ray: only once the configuration has been read

        run(config, resume=resume, anew=anew)
    except UserError as error:
        print(f"error: {printable_line(str(error))}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {printable_line(str(error))}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(_how_it_stopped(stopped, arguments), file=sys.stderr)
        return 128 + stopped.signal_number
    except KeyboardInterrupt:
        print("interrupted before the run had begun", file=sys.stderr)
        return 130
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.dry_run and arguments.resume:
        raise UserError(
            "option '--dry-run' is for a new run, a resumed one goes on as it was; leave out --resume, or look at its "
            f"options with: r1 config show {arguments.resume}"
        )
    if arguments.dry_run and arguments.goes_on:
        raise UserError("option '--dry-run' is for a new run; leave out --continue")
    if arguments.resume and arguments.goes_on:
        raise UserError("option '--resume' names the run that '--continue' looks for; leave out one of them")
    if arguments.runs and not arguments.goes_on:
        raise UserError("option '--runs' goes with --continue; give run_dir=FOLDER, or add --continue")
    if arguments.runs:
        check_runs(arguments.runs)


def _how_it_stopped(stopped: Stopped, arguments: argparse.Namespace) -> str:
    """The last line of a run that a signal has ended: what is saved, and the command that goes on."""
    program = ["python", "-m", "launch.train"]
    same = shlex.join([*program, *sys.argv[1:], *([] if arguments.goes_on or arguments.resume else ["--continue"])])
    if stopped.run is None:
        return printable_line(f"stopped while it started up, this has changed nothing; once more: {same}")
    if stopped.step == 0:
        return printable_line(f"stopped before the first step was done, nothing is saved; begin again with: {same}")
    again = same if arguments.goes_on else shlex.join([*program, "--resume", stopped.run])
    if stopped.step is None:
        return printable_line(f"ended at once; go on from the last checkpoint, if there is one, with: {again}")
    return printable_line(f"stopped after step {stopped.step}, checkpoint written; go on with: {again}")


def _configuration(path: str | None, overrides: list[str], resume: str | None) -> RunConfig:
    if resume is None:
        if path is None:
            raise UserError("no configuration given: python -m launch.train launch/configs/quickstart.toml")
        return load_config(path, overrides)
    if path is not None:
        overrides = [path, *overrides]
    return saved_config(folder_to_resume(resume), overrides, option="--resume")


if __name__ == "__main__":
    sys.exit(main())
