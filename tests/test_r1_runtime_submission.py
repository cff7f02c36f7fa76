"""A submitted run is followed through connections that break or fall silent, and says which code it is."""

import asyncio
import subprocess

import pytest
from fake_job_server import SILENCE, client
from ray.job_submission import JobStatus
from tiny import ROOT

from r1.errors import RunError
from r1.runtime import submission, upload

__all__ = ["client"]  # a fixture


def job_of(client):
    sent = submission.Submission(
        address="http://a:1", uses_token=False, entrypoint=(), config_name="", upload=upload.Upload(folder=ROOT, files={})
    )
    return submission.Job(client=client.__new__(client), job_id="raysubmit_1", submission=sent)


def test_a_log_that_breaks_off_is_written_once(client):
    broken = RuntimeError("WebSocket connection closed unexpectedly")
    job = job_of(
        client(
            [["one\n", "two\n", broken], [OSError("refused")], ["one\ntwo\nth"], ["one\ntwo\n", "three\n"]],
            [JobStatus.RUNNING, JobStatus.SUCCEEDED],
        )
    )
    written = []
    assert asyncio.run(submission.follow(job, written.append)) == JobStatus.SUCCEEDED
    assert "".join(written) == "one\ntwo\nthree\n"


def test_a_connection_that_falls_silent_is_replaced(client, monkeypatch):
    monkeypatch.setattr(submission, "SILENCE_S", 0.01)
    monkeypatch.setattr(submission, "LOST_S", 1000.0)
    job = job_of(client([["one\n", SILENCE], [OSError("refused")], ["one\n", "two\n"]], [JobStatus.SUCCEEDED]))
    written = []
    assert asyncio.run(submission.follow(job, written.append)) == JobStatus.SUCCEEDED
    assert "".join(written) == "one\ntwo\n"


def test_a_job_server_that_stays_away_is_given_up(client, monkeypatch):
    monkeypatch.setattr(submission, "LOST_S", -1.0)
    with pytest.raises(RunError, match=r"job raysubmit_1: http://a:1 has not answered .*ray job logs"):
        asyncio.run(submission.follow(job_of(client([[OSError("refused")]], [])), print))


def test_the_revision_says_whether_the_tree_differs(tmp_path):
    assert submission.git_revision(tmp_path) == "unknown"

    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        return subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True, text=True).stdout

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    revision = git("rev-parse", "HEAD").strip()
    assert submission.git_revision(tmp_path) == revision
    (tmp_path / "b").write_text("sent along")
    assert submission.git_revision(tmp_path) == f"{revision}-dirty"
