"""A client of Ray's job server that answers by a script."""

import asyncio
import os

import pytest

from r1.runtime import submission

SILENCE = object()


class FakeClient:
    """Ray's job server, by a script: each try to follow yields texts, or raises; then a status."""

    submitted: dict
    refusals: list
    tails: list
    statuses: list
    session = "pytest"
    """Some process here names it, so the head node is this machine."""

    def __init__(self, address):
        assert address == os.environ[submission.ADDRESS]

    def submit_job(self, **options):
        if self.refusals:
            raise RuntimeError(self.refusals.pop(0))
        type(self).submitted = options
        return "raysubmit_1"

    async def tail_job_logs(self, job_id):
        for item in self.tails.pop(0):
            if isinstance(item, BaseException):
                raise item
            if item is SILENCE:
                await asyncio.Event().wait()
            yield item

    def get_job_status(self, job_id):
        return self.statuses.pop(0)

    def session_name(self):
        return self.session


@pytest.fixture
def client(monkeypatch):
    def script(tails, statuses, refusals=()):
        FakeClient.tails, FakeClient.statuses, FakeClient.refusals = list(tails), list(statuses), list(refusals)
        return FakeClient

    monkeypatch.setattr(submission, "_Client", FakeClient)
    monkeypatch.setattr(submission, "RETRY_S", 0.0)
    return script
