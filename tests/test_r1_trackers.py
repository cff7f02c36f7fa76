"""What a run does with its trackers, with fakes in their place; test_r1_trackers_packages.py has W&B and trackio themselves."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
from test_r1_metrics import logger, report, run_config
from tiny import ROOT, tiny_config

from r1.config import load_config
from r1.errors import UserError
from r1.faults import FaultLog
from r1.metrics import MetricsLogger, truncate_metrics
from r1.preflight import prepare
from r1.tracker_backends import TRACKERS, Tracker, WeightsAndBiases

QUICKSTART = ROOT / "launch/configs/quickstart.toml"


class Recorder(Tracker):
    """Keeps what it is sent in `calls`, and fails at the calls named in `fails_at`."""

    package = "json"
    wanted = 0

    def __init__(self, run_dir, config):
        super().__init__(run_dir, config)
        self.calls, self.fails_at = [], set()
        RECORDERS.append(self)

    def _take(self, *call):
        self.calls.append(call)
        if call[:2] in self.fails_at or call[:1] in self.fails_at:
            raise ConnectionError("no route\nto the server")

    def begin(self):
        self._take("begin")
        return self.wanted

    def log(self, step, scalars):
        self._take("log", step, dict(scalars))

    def close(self, failed=False):
        self._take("close", failed)


class Continuing(Recorder):
    wanted = None


class Refusing(Recorder):
    def begin(self):
        raise RuntimeError("the server says no\n(code 403)")


RECORDERS: list[Recorder] = []


@pytest.fixture(autouse=True)
def known(monkeypatch):
    RECORDERS.clear()
    for name, kind in {"anew": Recorder, "continuing": Continuing, "refusing": Refusing}.items():
        monkeypatch.setitem(TRACKERS, name, kind)


def opened(run_dir, *names, faults=None):
    metrics = MetricsLogger(run_dir, run_config(trackers=list(names)), faults=faults)
    return metrics, *RECORDERS


def logged(tracker):
    return [(step, scalars) for kind, *rest in tracker.calls if kind == "log" for step, scalars in [rest]]


def test_the_names_are_one_line_of_the_configuration():
    def trackers(*overrides):
        return load_config(QUICKSTART, overrides).logging.trackers

    assert trackers() == ["tensorboard"]
    assert trackers('logging.trackers=["tensorboard", "wandb"]') == ["tensorboard", "wandb"]
    assert trackers("logging.trackers=[]") == []


def test_no_tracker_writes_nothing(tmp_path):
    metrics = logger(tmp_path, trackers=[])
    with metrics:
        metrics.log_step(report(1))
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_tracker_gets_what_tensorboard_gets(tmp_path):
    metrics, tracker = opened(tmp_path, "anew")
    with metrics:
        metrics.log_heldout(0, {"accuracy": 0.25})
        metrics.log_step(report(1, {"reward": 0.5, "reward/format": 1.0}, {"sample": 1.5}))
    assert tracker.calls == [
        ("begin",),
        ("log", 0, {"heldout/accuracy": 0.25}),
        ("log", 1, {"train/reward": 0.5, "train/reward/format": 1.0, "time/sample_s": 1.5}),
        ("close", False),
    ]


def test_one_that_begins_anew_is_sent_the_record_and_one_that_goes_on_is_not(tmp_path):
    before = logger(tmp_path, trackers=[])
    with before:
        before.log_step(report(1, {"reward": 0.1, "loss": math.inf}, {}))
        before.log_step(report(2, {"reward": 0.2}, {}))
        before.log_step(report(3, {"reward": 0.3}, {}))
    truncate_metrics(tmp_path, 2)

    metrics, anew, continuing = opened(tmp_path, "anew", "continuing")
    with metrics:
        metrics.log_step(report(3, {"reward": 0.4}, {}))
        metrics.rewind(1)
        metrics.log_step(report(2, {"reward": 0.5}, {}))

    assert [step for step, _ in logged(anew)] == [1, 2, 3, 1, 2]
    assert math.isnan(logged(anew)[0][1]["train/loss"])  # infinite numbers are null in the record
    assert logged(anew)[-1] == (2, {"train/reward": 0.5})
    assert logged(continuing) == [(3, {"train/reward": 0.4}), (2, {"train/reward": 0.5})]


def test_a_name_given_twice_is_one_tracker(tmp_path):
    metrics, *trackers = opened(tmp_path, "anew", "anew")
    metrics.close()
    assert len(trackers) == 1


@pytest.mark.parametrize(
    ("fails_at", "what"), [(("log", 2), "logging step 2"), (("begin",), "going back"), (("close",), "closing")]
)
def test_one_that_fails_under_way_is_switched_off_and_the_run_goes_on(tmp_path, fails_at, what):
    said = []
    faults = FaultLog(said.append)
    metrics, bad, good = opened(tmp_path, "anew", "continuing", faults=faults)
    bad.fails_at.add(fails_at)
    with metrics:
        metrics.log_step(report(1))
        metrics.log_step(report(2))
        metrics.rewind(1)
        metrics.log_step(report(2))
        metrics.log_step(report(3))

    assert said == [
        f"fault: tracker anew failed when {what}: ConnectionError: no route to the server; it is switched off, and the run goes "
        "on: metrics.jsonl has all"
    ]
    assert faults.counts() == {"faults/tracker": 1.0}
    failed_at = next(index for index, call in enumerate(bad.calls) if index and call[: len(fails_at)] == fails_at)
    assert [call[:1] for call in bad.calls[failed_at + 1 :]] == [("close",)]  # and nothing else after that
    assert [step for step, _ in logged(good)] == [1, 2, 2, 3]
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3]


def test_one_that_cannot_start_is_the_users_business(tmp_path):
    with pytest.raises(UserError) as caught:
        opened(tmp_path, "tensorboard", "refusing")
    assert str(caught.value) == (
        "option 'logging.trackers': 'refusing' cannot start: the server says no (code 403); mend that or leave 'refusing' out"
    )


def test_those_that_had_begun_are_closed_when_another_cannot_start(tmp_path):
    with pytest.raises(UserError):
        opened(tmp_path, "anew", "refusing")
    assert RECORDERS[0].calls == [("begin",), ("close", True)]


def test_a_replay_is_flushed_once(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(Recorder, "flush", lambda self: flushed.append(self))
    before = logger(tmp_path, trackers=[])
    with before:
        for step in (1, 2, 3):
            before.log_step(report(step))
    metrics, _ = opened(tmp_path, "anew")
    assert len(flushed) == 1
    metrics.log_step(report(4))
    assert len(flushed) == 2
    metrics.close()


def test_a_run_that_ends_with_an_error_is_closed_as_one_that_failed(tmp_path):
    metrics, tracker = opened(tmp_path, "anew")
    with pytest.raises(ZeroDivisionError), metrics:
        metrics.log_step(report(1 // 0))
    assert tracker.calls == [("begin",), ("close", True)]


@pytest.mark.parametrize(
    ("name", "package", "message"),
    [
        ("wanbd", "json", "option 'logging.trackers': no 'wanbd' here; did you mean 'wandb'?"),
        (
            "anew",
            "no_such_package",
            "option 'logging.trackers': the package no_such_package of 'anew' is not installed; pip install 'r1[anew]', or leave 'anew' out",
        ),
        (
            "anew",
            "only_a_folder",  # as the `wandb` that wandb writes where a run without r1 was started
            "option 'logging.trackers': the package only_a_folder of 'anew' is not installed; pip install 'r1[anew]', or leave 'anew' out",
        ),
    ],
)
def test_trackers_are_checked_before_anything_starts(name, package, message, tmp_path, monkeypatch):
    (tmp_path / "only_a_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Recorder, "package", package)
    with pytest.raises(UserError) as caught:
        prepare(tiny_config(f'logging.trackers=["{name}"]'))
    assert str(caught.value) == message


class LoginError(Exception):
    pass


def fake_wandb(mode, login):
    return SimpleNamespace(
        Error=LoginError, setup=lambda: SimpleNamespace(settings=SimpleNamespace(mode=mode)), login=lambda prompt: login(prompt)
    )


def test_wandb_without_a_key_is_refused_before_it_would_ask(monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb("online", asked.append))
    with pytest.raises(UserError, match="wandb has no API key; run `wandb login`, set WANDB_API_KEY, set WANDB_MODE=offline, or"):
        WeightsAndBiases.check()
    assert asked == [False]  # no prompt

    def refuse(prompt):
        raise LoginError("API key must have 40+ characters,\nhas 5.")

    monkeypatch.setitem(sys.modules, "wandb", fake_wandb("online", refuse))
    with pytest.raises(UserError, match=r"cannot log in: API key must have 40\+ characters, has 5\.$"):
        WeightsAndBiases.check()
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb("offline", refuse))
    WeightsAndBiases.check()


def test_wandb_with_a_mode_that_there_is_not_is_refused_in_one_line(monkeypatch):
    def setup():
        raise ValueError("1 validation error for Settings\nmode\n  Input should be 'online' or 'offline'")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Error=LoginError, setup=setup))
    with pytest.raises(UserError, match="wandb cannot read its settings: 1 validation error for Settings mode Input should be"):
        WeightsAndBiases.check()


def test_what_a_tracker_itself_checks_is_checked_before_anything_starts(monkeypatch):
    def refuse():
        raise UserError("no key")

    monkeypatch.setattr(Recorder, "check", refuse)
    with pytest.raises(UserError, match="no key"):
        prepare(tiny_config('logging.trackers=["anew"]'))
