"""A run that is asked to stop: at each point of a step, once and twice, against the loop's fakes and with real signals."""

import math
import os
import signal

import pytest
from loop_fakes import FakeLearner, FakeSampler, FakeScorer, trainer_of

from r1.errors import RunError, WorkerLost
from r1.loop import Observer, train
from r1.stopping import Stop, Stopped, stopped_by_signals
from r1.types import Progress


class Signals:
    """Lets signals come when something is logged that is `moment`."""

    def __init__(self, moment, *numbers):
        self.moment, self.numbers, self.stop = moment, numbers or (signal.SIGTERM,), Stop()
        self.log = Log(self)


class Log(list):
    def __init__(self, signals):
        super().__init__()
        self.signals = signals

    def append(self, entry):
        super().append(entry)
        if entry == self.signals.moment:
            for number in self.signals.numbers:
                self.signals.stop.receive(number)


class LoggingScorer(FakeScorer):
    def __init__(self, log):
        super().__init__()
        self.log, self.step = log, 0

    def collect(self, groups):
        self.step += 1
        self.log.append(f"score {self.step}")
        return super().collect(groups)


def run(signals, *overrides, start=None, **parts):
    """Train until it is stopped; returns (the exception, the steps that were recorded)."""
    log, recorded = signals.log, []
    defaults = {"sampler": FakeSampler(log), "scorer": LoggingScorer(log), "learner": FakeLearner(log)}
    trainer = trainer_of(log, *overrides, stop=signals.stop, **{**defaults, **parts})
    observer = Observer(
        on_groups=lambda step, _: log.append(f"keep {step}"),
        on_step=lambda report: (recorded.append(report.step), log.append(f"record {report.step}")),
        evaluate=lambda step, version: log.append(f"eval {step}"),
    )
    if start:
        trainer.learner.version = start.policy_version
    with pytest.raises(KeyboardInterrupt) as caught:
        train(trainer, observer, **({"start": start} if start else {}))
    return caught.value, recorded


# Checkpoints are due after 2 and 3 (checkpoint.every=2, num_steps=3), evaluations before the first step and after the last.
@pytest.mark.parametrize(
    ("moment", "step", "ends_with"),
    [
        ("load 0", 0, ["load 0", "saved"]),
        ("eval 0", 0, ["eval 0", "saved"]),
        ("sample 0", 0, ["sample 0", "saved"]),
        # What is being sampled or scored is dropped at once, and the step before it is saved.
        ("sample 1", 1, ["sample 1", "save 1", "saved"]),
        ("score 2", 1, ["score 2", "save 1", "saved"]),
        # From the update on the step is finished and recorded.
        ("update", 1, ["update", "keep 1", "publish 1", "load 1", "record 1", "save 1", "saved"]),
        ("keep 2", 2, ["keep 2", "publish 2", "load 2", "record 2", "save 2", "saved"]),
        ("publish 1", 1, ["publish 1", "load 1", "record 1", "save 1", "saved"]),
        ("load 2", 2, ["load 2", "record 2", "save 2", "saved"]),
        ("record 1", 1, ["record 1", "save 1", "saved"]),
        # What is saved already is saved once.
        ("save 2", 2, ["save 2", "saved"]),
        ("sample 2", 2, ["sample 2", "saved"]),
        # The last evaluation is dropped: a resumed run makes up for it.
        ("record 3", 3, ["record 3", "save 3", "saved", "saved"]),
        ("eval 3", 3, ["save 3", "saved", "eval 3", "saved"]),
    ],
)
def test_the_first_signal_ends_a_run_with_its_last_step_saved(moment, step, ends_with):
    signals = Signals(moment)
    stopped, recorded = run(signals)
    assert isinstance(stopped, Stopped)
    assert (stopped.step, stopped.signal_number) == (step, signal.SIGTERM)
    assert list(signals.log[-len(ends_with) :]) == ends_with
    assert recorded == list(range(1, step + 1))
    assert sum(entry.startswith("save ") for entry in signals.log) == step // 2 + step % 2  # one after 1 or 3, one after 2


def test_a_resumed_run_that_is_stopped_before_its_first_step_saves_nothing_anew():
    signals = Signals("sample 1")
    stopped, recorded = run(signals, start=Progress(step=1, policy_version=1))
    assert stopped.step == 1
    assert recorded == []
    assert "save 1" not in signals.log


def test_an_evaluation_that_is_due_is_left_to_the_resumed_run():
    signals = Signals("record 2")
    stopped, _ = run(signals, "evaluate.every=2")
    assert stopped.step == 2
    assert "eval 2" not in signals.log


def test_steps_that_were_sampled_ahead_are_dropped():
    signals = Signals("record 1")
    stopped, recorded = run(signals, "rollout.max_staleness=1")
    assert stopped.step == 1
    assert recorded == [1]
    assert list(signals.log[-2:]) == ["save 1", "saved"]


@pytest.mark.parametrize("moment", ["update", "load 1"])
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_step_at_once(moment, first):
    signals = Signals(moment, first, signal.SIGINT)
    interrupt, recorded = run(signals)
    assert not isinstance(interrupt, Stopped)
    assert signals.log[-1] == "saved within 60 s"  # as Ctrl-C always did
    assert recorded == []
    assert not any(entry.startswith("save ") for entry in signals.log)


def test_sigterm_again_is_the_same_request():
    signals = Signals("update", *[signal.SIGTERM] * 3)
    stopped, recorded = run(signals)
    assert isinstance(stopped, Stopped)
    assert (stopped.step, recorded) == (1, [1])


def test_the_second_signal_ends_the_save_of_the_first_one_at_once():
    signals = Signals("sample 1")

    class Saves(FakeLearner):
        def save(self, progress):
            super().save(progress)
            signals.stop.receive(signal.SIGINT)

    interrupt, _ = run(signals, learner=Saves(signals.log))
    assert not isinstance(interrupt, Stopped)
    assert signals.log[-2:] == ["sample 1", "save 1"]


def test_a_learner_that_is_lost_meanwhile_is_brought_back_first():
    signals = Signals("recover")

    class Mortal(FakeLearner):
        def update(self, batch):
            if batch.step == 3 and "recover" not in self.log:
                raise WorkerLost("the learner died")
            return super().update(batch)

        def recover(self, lost):
            self.log.append("recover")
            self.version = 2
            return Progress(step=2, policy_version=2)

    stopped, recorded = run(signals, learner=Mortal(signals.log))
    assert stopped.step == 2  # the checkpoint that it was brought back from
    assert recorded == [1, 2]
    assert signals.log.count("save 2") == 1


def test_a_checkpoint_that_cannot_be_written_at_the_stop_is_an_error():
    signals = Signals("sample 1")

    class Full(FakeLearner):
        def finish_save(self, limit_s=math.inf):
            raise RunError("cannot write the checkpoint: no space")

    trainer = trainer_of(signals.log, stop=signals.stop, learner=Full(signals.log), sampler=FakeSampler(signals.log))
    with pytest.raises(RunError, match="no space"):
        train(trainer, Observer())


@pytest.fixture
def with_sigint():
    """Python's own handler, wherever pytest was started: a shell's `command &` ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_real_signals_wait_where_nothing_may_be_cut(with_sigint, number, capfd):
    done, stop = [], Stop()

    def work():
        with stopped_by_signals(stop), stop.held():
            os.kill(os.getpid(), number)
            done.append("the held block goes on")
            with stop.at_once():
                done.append("this does not begin")

    with pytest.raises(Stopped) as caught:
        work()
    assert done == ["the held block goes on"]
    assert (caught.value.signal_number, caught.value.step) == (number, None)
    assert "Ctrl-C (once more) ends the run at once" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_real_signals_raise_where_all_may_be_dropped(with_sigint, number):
    stop = Stop()

    def work():
        with stopped_by_signals(stop), stop.held(), stop.at_once():
            os.kill(os.getpid(), number)
            signal.pause()  # would never return

    with pytest.raises(Stopped):
        work()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_python_loses_in_a_destructor_ends_the_sampling_all_the_same():
    stop = Stop()

    class Loses:
        def __del__(self):
            stop.receive(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), stop.held(), stop.at_once():
        Loses()


def test_sigint_stays_ignored_where_it_was():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopped_by_signals(Stop()):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
