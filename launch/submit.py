"""Train on a running Ray cluster: `launch/submit.sh CONFIG.toml [section.option=value ...]`.

Uploads the checkout that it is in, runs `python -m launch.train CONFIG --continue` on the head node and follows its log.
"""

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from r1.cli.printing import printable_line
from r1.config import RunConfig, load_config
from r1.errors import RunError, UserError
from r1.run_choice import check_runs
from r1.run_folder import RUNS

if TYPE_CHECKING:
    from r1.runtime.submission import Submission
    from r1.runtime.upload import Upload

CHECKOUT = Path(__file__).resolve().parents[1]
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HELP = f"""\
The same command goes on with its run where that was stopped (ray job stop ends it with a checkpoint), and begins the next one
when it has finished (in a run_dir of its own it goes on with a larger num_steps only). Paths in CONFIG and in overrides are those
of the cluster: give task.path and model.path as absolute paths there, or relative to the checkout if they lie in it. A cluster is
local if its head node is this machine; an address on 127.0.0.1 may also be the end of a tunnel.

environment variables:
  RAY_API_SERVER_ADDRESS   the cluster's job server           (default: {DEFAULT_ADDRESS})
  RAY_AUTH_MODE            "token" or "disabled"              (default: token when there is one, as `ray start` does)
  R1_PYTHON                the Python that runs the job       (default: .venv here for a local cluster, else python)

exit codes: 0 SUCCEEDED, 1 FAILED or STOPPED, 2 refused before anything was sent, 130 Ctrl-C while the job goes on
"""


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_intermixed_args(arguments)
    try:
        if not (CHECKOUT / "pyproject.toml").is_file():
            raise UserError(f"{str(CHECKOUT)!r} is not a checkout of r1, which is what is sent; take launch/submit.sh of one")
        config = load_config(given.config, given.overrides)
        address = _address(os.environ)
        # What can be refused before the job server is asked where it is.
        _runs_folder(given.runs, config, address, is_here=_is_loopback(address))
        uses_token = _uses_token(os.environ, Path.home())
        if uses_token:
            os.environ["RAY_AUTH_MODE"] = "token"  # Ray reads it as it is imported
        from r1.runtime.upload import measure_upload  # imports ray: only once the configuration has been read

        upload = measure_upload(CHECKOUT)
        print(f"upload: {upload}", flush=True)
        upload.check_size()
        _check_paths(Path(given.config), config, upload)
        config_path = str(Path(given.config).resolve().relative_to(upload.folder))
        from r1.runtime.submission import Submission, connect, is_on_this_machine

        client = connect(address)
        is_here = _is_loopback(address) and is_on_this_machine(client)
        runs = _runs_folder(given.runs, config, address, is_here)
        submission = Submission(
            address=address,
            uses_token=uses_token,
            entrypoint=(_python(is_here), "-m", "launch.train", config_path, *given.overrides, "--continue", *runs),
            config_name=config.name,
            upload=upload,
        )
        return _submit_and_follow(client, submission, waits=not given.no_wait)
    except UserError as error:
        print(f"error: {printable_line(str(error))}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {printable_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted before the run was submitted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="launch/submit.sh",
        description="Train on a running Ray cluster.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG.toml", help="a file in this checkout, e.g. launch/configs/quickstart.toml")
    parser.add_argument("overrides", nargs="*", metavar="section.option=value", help="as for python -m launch.train")
    parser.add_argument(
        "--runs",
        metavar="FOLDER",
        help="where runs are looked for, and new ones made; all nodes must share it (default on this machine: runs, here)",
    )
    parser.add_argument("--no-wait", action="store_true", help="submit, and do not follow the log")
    return parser


def _submit_and_follow(client: Any, submission: "Submission", *, waits: bool) -> int:
    import asyncio

    from r1.runtime.submission import follow, submit

    job = submit(client, submission)
    print("\n".join([f"submitted job {job.job_id} to {submission.address}", *job.commands()]), flush=True)
    if not waits:
        return 0
    try:
        status = asyncio.run(follow(job, lambda text: print(text, end="", flush=True)))
    except KeyboardInterrupt:
        print("\n" + "\n".join([f"no longer following: job {job.job_id} goes on", *job.commands()]), file=sys.stderr)
        return 130
    except OSError as error:  # of stdout: a closed pipe, a full disk; those of the network are dealt with
        print("\n".join([f"no longer following ({error}): job {job.job_id} goes on", *job.commands()]), file=sys.stderr)
        with contextlib.suppress(OSError):  # or Python would write what is left, and fail again, as it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    print(f"job {job.job_id} {str(status).lower()}", flush=True)
    if status == "STOPPED":
        again = shlex.join([os.path.relpath(CHECKOUT / "launch/submit.sh"), *sys.argv[1:]])
        print(f"it was stopped before its end; the same command goes on with its run: {again}")
    return 0 if status == "SUCCEEDED" else 1


def _address(environment: Mapping[str, str]) -> str:
    address = (environment.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS).rstrip("/")
    address = address if "://" in address else f"http://{address}"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"RAY_API_SERVER_ADDRESS={address!r} must be the address of a job server, http://HOST:8265 (not that of Ray itself)"
        )
    return address


def _is_loopback(address: str) -> bool:
    return urlsplit(address).hostname in _LOOPBACK


def _python(is_here: bool) -> str:
    own = CHECKOUT / ".venv/bin/python"
    return os.environ.get("R1_PYTHON") or (str(own) if is_here and own.exists() else "python")


def _uses_token(environment: Mapping[str, str], home: Path) -> bool:
    """Whether to ask for token authentication: `ray start` switches it on when a token exists, Ray's job client does not."""
    is_given = any(environment.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return (is_given or (home / ".ray/auth_token").is_file()) and not environment.get("RAY_AUTH_MODE")


def _runs_folder(runs: str | None, config: RunConfig, address: str, is_here: bool) -> tuple[str, ...]:
    """The options that say where the run writes: the job runs in an uploaded copy that Ray deletes.

    is_here: whether the cluster's head node is this machine.
    """
    if config.run_dir is not None:
        if runs is not None:
            raise UserError("option '--runs' is for runs without run_dir; leave out one of them")
        if not _is_outside(config.run_dir):
            raise UserError(
                f"option 'run_dir': {config.run_dir!r} would lie in the uploaded copy, which Ray deletes; give an absolute path"
            )
        return ()
    if runs is None:
        if not is_here:
            raise UserError(
                f"RAY_API_SERVER_ADDRESS={address!r} leads to another machine: say where the run shall write, a folder that all "
                "its nodes share: --runs /shared/runs, or run_dir=/shared/runs/NAME"
            )
        return ("--runs", str(CHECKOUT / RUNS))
    check_runs(runs)
    if not is_here and not Path(runs).is_absolute():
        raise UserError(f"option '--runs': {runs!r} must be an absolute path on the cluster")
    return ("--runs", str(Path(runs).absolute()))


def _is_outside(path: str) -> bool:
    return "://" in path or Path(path).is_absolute()


def _check_paths(config_path: Path, config: RunConfig, upload: "Upload") -> None:
    """Refuse files that are here, relative to the checkout, and would not be there."""
    if not upload.has(config_path.resolve()):
        raise UserError(
            f"config file {str(config_path)!r} is not in the upload of {upload.folder}; put it into this checkout, e.g. into "
            "launch/configs/, where no .gitignore or .rayignore names it"
        )
    for option, path in _files_of(config):
        here = CHECKOUT / path
        if not Path(path).is_absolute() and here.exists() and not upload.has(here):
            raise UserError(
                f"option {option!r}: {path!r} stays here, it is not in the upload; give its absolute path on the cluster"
            )


def _files_of(config: RunConfig) -> Iterator[tuple[str, str]]:
    """(option, value) of what may name a file or a folder."""
    task = config.task
    given = {
        "model.path": config.model.path,
        "task.path": task.path,
        "task.heldout_path": task.heldout_path,
        "task.template": task.template,
        "task.difficulty": (task.difficulty or "").partition(":")[2],
    }
    yield from ((option, path) for option, path in given.items() if path)
    for reward in task.rewards or {}:  # my_rewards.py:short_answer
        yield "task.rewards", reward.partition(":")[0]
    for name, part in task.mix.items():
        yield from ((f"task.mix.{name}.{key}", path) for key in ("path", "heldout_path") if (path := getattr(part, key)))


if __name__ == "__main__":
    sys.exit(main())
