"""Send a run to a Ray cluster's job server, follow its log, and say how it ended."""

import asyncio
import logging
import os
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from r1.errors import RunError, UserError
from r1.runtime.upload import EXCLUDES, Upload

ADDRESS = "RAY_API_SERVER_ADDRESS"
AUTH_MODE = "RAY_AUTH_MODE"
STOP_WAIT_S = 600
"""How long a job that is stopped has until SIGKILL: for the update that is under way, and its checkpoint. With Ray's default
of 3 s no run would end with one. A limit, not a delay."""
CONNECT_S, ANSWER_S, TAKE_S = 10.0, 15.0, 120.0
"""How long the job server may take to be reached, to answer a question, and to take the upload or the job; Ray itself waits for
ever."""
STARTING_S = 30.0
"""How long a cluster is waited for that has a job server, and nobody yet to run jobs: some seconds after `ray start`."""
LOST_S = 60.0
"""How long it may be out of reach while the log is followed."""
SILENCE_S = 60.0
"""After how long without a line it is followed through a new connection: one may die unnoticed."""
RETRY_S = 2.0

# A dozen lines on .gitignore files, default excludes, packages and websockets.
for _name in ("_private.runtime_env.packaging", "_private.runtime_env.working_dir", "dashboard.modules.dashboard_sdk"):
    logging.getLogger(f"ray.{_name}").setLevel(logging.ERROR)
logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.ERROR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """What is sent where."""

    address: str
    """Of the job server, e.g. http://127.0.0.1:8265."""
    uses_token: bool
    """Whether Ray had to be told that there is a token: its commands have to be told as well."""
    entrypoint: tuple[str, ...]
    """The command that the head node runs in the uploaded folder."""
    config_name: str
    upload: Upload


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A submitted run."""

    client: Any
    """Of Ray's job server, or a fake."""
    job_id: str
    submission: Submission

    def command(self, action: str, *options: str) -> str:
        """A `ray job ...` command for a person to copy."""
        ray = Path(sys.executable).with_name("ray")
        program = os.path.relpath(ray) if ray.is_file() else "ray"
        mode = f"{AUTH_MODE}=token " if self.submission.uses_token else ""
        # Not --address: Ray would take RAY_ADDRESS, if that is set, before it.
        address = f"{ADDRESS}={shlex.quote(self.submission.address)} "
        return address + mode + shlex.join([program, "job", action, *options, self.job_id])

    def commands(self) -> list[str]:
        return [
            f"follow its log:             {self.command('logs', '--follow')}",
            f"ask how it is:              {self.command('status')}",
            f"stop it, with a checkpoint: {self.command('stop')}",
        ]


class _Client(JobSubmissionClient):  # type: ignore[misc]  # Ray has no types
    """Ray's client, which does not wait for ever."""

    def _do_request(self, method: str, *arguments: Any, **options: Any) -> Any:
        timeout = (CONNECT_S, ANSWER_S if method == "GET" else TAKE_S)
        return super()._do_request(method, *arguments, **options, timeout=timeout)

    def session_name(self) -> str:
        return str(self._do_request("GET", "/api/version").json()["session_name"])


def connect(address: str) -> Any:
    """A client of the job server; a `UserError` where it refuses or is not there."""
    os.environ[ADDRESS] = address  # Ray takes RAY_ADDRESS, if that is set, before what the client is given
    with _refused_in_one_line(address):
        return _Client(address)


def is_on_this_machine(client: Any) -> bool:
    """Whether the head node is: some of its processes name the session that the job server names."""
    with _refused_in_one_line(os.environ[ADDRESS]):
        session = client.session_name()
    return any(session in word for process in psutil.process_iter(["cmdline"]) for word in process.info["cmdline"] or ())


def submit(client: Any, submission: Submission) -> Job:
    """Upload the checkout and have the cluster run it; a `UserError` where the job server refuses or is gone."""
    with _refused_in_one_line(submission.address):
        job_id = _submit(
            client,
            entrypoint=shlex.join(submission.entrypoint),
            runtime_env=runtime_environment(submission.upload),
            metadata=metadata(submission),
        )
    return Job(client=client, job_id=job_id, submission=submission)


@contextmanager
def _refused_in_one_line(address: str) -> Iterator[None]:
    at = f"{ADDRESS}={address!r}"
    try:
        yield
    except UserError:
        raise
    except AuthenticationError as error:
        raise UserError(
            f"{at}: the job server refuses the token, or misses one; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or "
            "RAY_AUTH_TOKEN_PATH) to what the cluster was started with"
        ) from error
    # Those of requests are OSErrors; the last two: what answers is no job server.
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(
            f"{at}: no job server takes the run there ({reason}); on this machine `ray start --head` starts one, for another "
            f"cluster set {ADDRESS} to its head node's, http://HOST:8265"
        ) from error


def _submit(client: Any, **job: Any) -> str:
    start = time.monotonic()
    while True:
        try:
            job_id: str = client.submit_job(**job)
            return job_id
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            if time.monotonic() - start > STARTING_S:
                raise UserError(
                    f"{ADDRESS}={os.environ[ADDRESS]!r}: the job server has nobody to run jobs: the head node's dashboard agent "
                    "is not up; if another cluster on that machine has its port (52365), give it one of its own: ray start "
                    "--dashboard-agent-listen-port=PORT"
                ) from error
        time.sleep(RETRY_S)


def runtime_environment(upload: Upload) -> dict[str, Any]:
    """The uploaded folder comes first on every process's path, so nothing of ours need be installed on the nodes."""
    return {
        "working_dir": str(upload.folder),
        "excludes": list(EXCLUDES),
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)},  # the job's supervisor reads it, at a stop
    }


def metadata(submission: Submission) -> dict[str, str]:
    """What the dashboard shows beside the job."""
    folder = submission.upload.folder
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"config": submission.config_name, "git": git_revision(folder), "r1": project["version"]}


def git_revision(folder: Path) -> str:
    """The checkout's commit, with "-dirty" when the folder is not as committed; "unknown" outside of git."""
    git = ["git", "-C", str(folder)]
    try:
        revision = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return "unknown"
    return f"{revision}-dirty" if changes else revision


async def follow(job: Job, write: Callable[[str], object]) -> JobStatus:
    """Write the job's log as it grows, and return how the job ended. Whoever interrupts this leaves the job running."""
    async for item in _log_and_status(job):
        if isinstance(item, JobStatus):
            return item
        write(item)
    raise AssertionError("the last item is the status")


async def _log_and_status(job: Job) -> AsyncIterator[str | JobStatus]:
    """The log, each text once, then how the job ended.

    It comes through a connection that may break or fall silent; the next one begins at the log's beginning.
    """
    num_written, seen = 0, time.monotonic()
    while True:
        num_read = 0
        try:
            async for text in _until_silent(job.client.tail_job_logs(job.job_id)):
                new = text[max(0, num_written - num_read) :]
                num_read += len(text)
                if new:
                    num_written = num_read
                    yield new
                seen = time.monotonic()
            status = job.client.get_job_status(job.job_id)
            if status.is_terminal():
                yield status
                return
            seen = time.monotonic()
        except _SilenceError:  # nobody can tell a long step from a lost network: LOST_S begins with the next connection
            seen = time.monotonic()
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            if time.monotonic() - seen > LOST_S:
                raise RunError(
                    f"job {job.job_id}: {job.submission.address} has not answered for {LOST_S:.0f} s ({error}); the run may go "
                    f"on: {job.command('logs', '--follow')}"
                ) from error
        await asyncio.sleep(RETRY_S)


class _SilenceError(Exception):
    """The connection may be dead."""


async def _until_silent(texts: AsyncIterator[str]) -> AsyncIterator[str]:
    while True:
        limit = asyncio.timeout(SILENCE_S)
        try:
            async with limit:
                text = await anext(texts)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            if limit.expired():
                raise _SilenceError from error
            raise
        yield text
