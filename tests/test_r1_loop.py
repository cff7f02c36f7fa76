"""The loop against fakes of twenty lines: order of the calls, and what it refuses."""

import math
from array import array
from dataclasses import replace

import pytest
from loop_fakes import FakeLearner, FakeSampler, FakeScorer, trainer_of

from r1.errors import RunError, ScoringError, SyncError, WorkerLost
from r1.loop import Observer, train
from r1.types import Progress, Score, TokenValues


@pytest.fixture
def log():
    return []


def test_the_order_of_a_run(log):
    observer = Observer(
        on_groups=lambda step, _: log.append(f"keep {step}"), evaluate=lambda step, version: log.append(f"eval {step}")
    )
    reports = train(trainer_of(log, "evaluate.every=2"), observer)
    step = "sample {v}, pause, update, keep {s}, publish {s}, load {s}"
    assert ", ".join(log) == ", ".join(
        [
            "publish 0, load 0, eval 0",
            step.format(v=0, s=1),
            step.format(v=1, s=2),
            "save 2, eval 2",
            step.format(v=2, s=3),
            "save 3, saved, eval 3",
        ]
    )
    assert [report.policy_version for report in reports] == [1, 2, 3]
    assert set(reports[0].timings_s) == {"sample", "score", "write", "update", "publish", "load"}


def test_a_resumed_run_starts_with_a_sync_and_without_an_evaluation(log):
    trainer = trainer_of(log)
    trainer.learner.version = 2
    observer = Observer(evaluate=lambda step, version: log.append(f"eval {step}"))
    train(trainer, observer, start=Progress(step=2, policy_version=2))
    assert log == ["publish 2", "load 2", "sample 2", "pause", "update", "publish 3", "load 3", "save 3", "saved", "eval 3"]


def test_an_evaluation_that_was_missed_is_made_up_for(log):
    # The run died between its last checkpoint and its last evaluation.
    trainer = trainer_of(log)
    trainer.learner.version = 3
    observer = Observer(evaluate=lambda step, version: log.append(f"eval {step} {version}"))
    assert train(trainer, observer, start=Progress(step=3, policy_version=3), evaluated={0}) == []
    assert log == ["publish 3", "load 3", "eval 3 3"]


def test_the_better_sibling_has_the_positive_advantage(log):
    # Rewards 0 1 0: mean 1/3, std 0.57735: (1 - 1/3) / 0.57735 = 1.1547, (0 - 1/3) / 0.57735 = -0.57735
    groups = []
    train(trainer_of(log), Observer(on_groups=lambda step, scored: groups.extend(scored)))
    assert groups[0].advantages == pytest.approx((-0.57735, 1.1547, -0.57735), abs=1e-4)


def test_metrics_of_a_step(log):
    [report, *_] = train(trainer_of(log), Observer())
    assert report.metrics["accuracy"] == pytest.approx(1 / 3)
    assert report.metrics["zero_variance_share"] == 0.0
    assert report.metrics["num_completions"] == 6
    assert report.metrics["completion_tokens"] == 8.0  # "answer 0" in bytes
    assert report.metrics["loss"] == 0.0


class Tampering(FakeSampler):
    def __init__(self, log, tamper):
        super().__init__(log)
        self.tamper = tamper

    def collect(self, batch):
        yield from self.tamper(list(super().collect(batch))[::-1])


def one_version_behind(groups):
    late = replace(groups[1].completions[2], policy_version=groups[1].completions[2].policy_version - 1)
    return [groups[0], replace(groups[1], completions=(*groups[1].completions[:2], late))]


@pytest.mark.parametrize(
    ("tamper", "error", "message"),
    [
        (one_version_behind, SyncError, r"step 1, group 1, sample 2: sampled by policy version -1, the step is at 0"),
        (lambda groups: groups[:1], RunError, r"asked for 2 of the groups \[0, 1\], the sampler returned \[0\]"),
        (lambda groups: [groups[0], groups[0]], RunError, r"the sampler returned \[0, 0\]"),
        (
            lambda groups: [groups[0], replace(groups[1], completions=groups[1].completions[:2])],
            RunError,
            "not exactly 3 completions",
        ),
    ],
)
def test_what_a_sampler_may_not_return(log, tamper, error, message):
    with pytest.raises(error, match=message):
        train(trainer_of(log, sampler=Tampering(log, tamper)), Observer())
    assert "update" not in log


def test_an_engine_that_was_not_synced_is_noticed(log):
    class Forgetful(FakeSampler):
        def load_weights(self, manifest):
            if manifest.policy_version == 0:
                super().load_weights(manifest)

    with pytest.raises(SyncError, match="step 2 wants samples of policy version 1, the engine holds 0"):
        train(trainer_of(log, sampler=Forgetful(log)), Observer())


def test_a_learner_that_does_not_count_is_noticed(log):
    class Stuck(FakeLearner):
        def update(self, batch):
            return {"loss": 0.0}

    with pytest.raises(SyncError, match="published version 0 instead of 1"):
        train(trainer_of(log, learner=Stuck(log)), Observer())


def test_nothing_left_to_train_is_an_error(log):
    with pytest.raises(RunError, match="raise num_steps"):
        train(trainer_of(log), Observer(), start=Progress(step=3, policy_version=3), evaluated={0, 3})


def test_a_step_in_which_nothing_could_be_judged_stops_the_run(log):
    class Clueless(FakeScorer):
        def collect(self, groups):
            return [tuple(Score(reward=None, breakdown={"accuracy": None}) for _ in group.completions) for group in groups]

    with pytest.raises(ScoringError, match="step 1: not one of the 6 completions could be judged"):
        train(trainer_of(log, scorer=Clueless()), Observer())


def test_samples_are_kept_when_the_update_fails(log):
    class Failing(FakeLearner):
        def update(self, batch):
            raise RunError("no")

    kept = []
    with pytest.raises(RunError):
        train(trainer_of(log, learner=Failing(log)), Observer(on_groups=lambda step, groups: kept.append(step)))
    assert kept == [1]


def test_samples_are_kept_when_the_learner_is_lost_behind_its_update(log):
    class Lost(FakeLearner):
        def token_values(self, group_ids):
            raise RunError("gone")

    kept = []
    with pytest.raises(RunError, match="gone"):
        train(trainer_of(log, learner=Lost(log)), Observer(on_groups=lambda step, groups: kept.append((step, len(groups)))))
    assert kept == [(1, 2)]


def test_what_the_learner_says_of_each_token_comes_with_its_group(log):
    values = {(1, 2): TokenValues(old_logprobs=array("f", [-1.0]), entropies=array("f", [0.5]))}

    asked_for = []

    class Telling(FakeLearner):
        def token_values(self, group_ids):
            asked_for.append(set(group_ids))
            return {key: value for key, value in values.items() if key[0] in group_ids}

    for traces, asked in (("tokens", {0, 1}), ("tokens:0", None), ("text", None)):
        kept = []
        asked_for.clear()
        trainer = trainer_of(log, "num_steps=1", f'logging.traces="{traces}"', learner=Telling(log))
        train(trainer, Observer(on_groups=lambda step, groups, kept=kept: kept.extend(groups)))
        assert asked_for == ([asked] if asked else [])
        assert [group.token_values for group in kept] == (
            [(None, None, None), (None, None, values[1, 2])] if asked else [(), ()]
        )


def test_a_run_that_fails_or_is_interrupted_finishes_the_checkpoint_that_is_being_written(log):
    for error in (RunError("no more disk"), KeyboardInterrupt()):

        def evaluate(step, version, error=error):
            if step == 2:
                raise error

        log.clear()
        with pytest.raises(type(error)):
            train(trainer_of(log, "evaluate.every=2"), Observer(evaluate=evaluate))
        assert log[-2:] == ["save 2", "saved within 60 s"]


def test_the_first_error_counts_when_the_learner_cannot_finish_its_checkpoint(log):
    class Dead(FakeLearner):
        def update(self, batch):
            raise RunError("the learner died")

        def finish_save(self, limit_s=math.inf):
            raise RunError("the learner is dead")

    with pytest.raises(RunError, match="the learner died"):
        train(trainer_of(log, learner=Dead(log)), Observer())


class Mortal(FakeLearner):
    """Dies in the update of the steps that are listed, each time once, and starts again at the last checkpoint."""

    def __init__(self, log, *deaths):
        super().__init__(log)
        self.deaths, self.saved, self.num_recoveries = list(deaths), Progress(), 0

    def update(self, batch):
        if self.deaths and batch.step == self.deaths[0]:
            self.deaths.pop(0)
            raise WorkerLost("the learner died")
        return super().update(batch)

    def save(self, progress):
        super().save(progress)
        self.saved = progress

    def recover(self, lost):
        self.num_recoveries += 1
        if self.num_recoveries > 2:
            raise RunError(f"started too often, the last time: {lost}")
        self.version = self.saved.policy_version
        self.log.append(f"recover after {self.saved.step}")
        return self.saved


def test_a_lost_learner_goes_on_from_its_last_checkpoint(log):
    rewound = []
    trainer = trainer_of(log, learner=Mortal(log, 1, 3), scorer=FakeScorer())
    reports = train(trainer, Observer(on_rewind=lambda progress: rewound.append(progress.step)))
    assert [(report.step, report.policy_version) for report in reports] == [(1, 1), (2, 2), (3, 3)]
    assert rewound == [0, 2]
    # Step 1 again from the first weights, step 3 again from those of step 2.
    assert [entry for entry in log if entry.startswith(("sample", "recover", "save", "load", "forget"))] == [
        *("load 0", "sample 0", "recover after 0", "forget", "load 0"),
        *("sample 0", "load 1", "sample 1", "load 2", "save 2"),
        *("sample 2", "recover after 2", "forget", "load 2", "sample 2", "load 3", "save 3", "saved"),
    ]
    assert [batch.step for batch in trainer.learner.batches] == [1, 2, 3]


def test_a_learner_that_is_lost_too_often_ends_the_run(log):
    with pytest.raises(RunError, match="started too often, the last time: the learner died"):
        train(trainer_of(log, learner=Mortal(log, 1, 1, 1)), Observer())


def test_a_learner_that_is_lost_while_it_starts_again_is_started_once_more(log):
    class DiesTwice(Mortal):
        def publish_weights(self):
            if self.num_recoveries == 1:
                raise WorkerLost("the learner died again")
            return super().publish_weights()

    learner = DiesTwice(log, 2)
    reports = train(trainer_of(log, learner=learner, scorer=FakeScorer()), Observer())
    assert [report.step for report in reports] == [1, 2, 3]
    assert learner.num_recoveries == 2


def test_the_last_evaluation_is_made_up_for_when_the_learner_is_lost_before_it(log):
    class DiesAtTheEnd(Mortal):
        def finish_save(self, limit_s=60.0):
            super().finish_save(limit_s)
            if not self.num_recoveries:
                raise WorkerLost("the learner died")

    evaluated = []
    observer = Observer(evaluate=lambda step, version: evaluated.append((step, version)))
    train(trainer_of(log, learner=DiesAtTheEnd(log), scorer=FakeScorer()), observer)
    assert evaluated[-1] == (3, 3)
