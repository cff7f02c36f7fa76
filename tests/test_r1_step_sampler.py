"""Which groups a step learns from: steps begun ahead, over-sampling, and sampling on for groups that teach something."""

from types import SimpleNamespace

import pytest
from loop_fakes import FakeLearner, FakeSampler, FakeScorer, prompts, trainer_of
from tiny import tiny_config

from r1.batching import make_train_batch
from r1.errors import RunError, SyncError, WorkerLost
from r1.loop import Observer, train
from r1.step_metrics import step_metrics
from r1.step_sampler import MAX_ROUNDS, StepSampler
from r1.stopwatch import Stopwatch
from r1.types import Progress, Score, WeightManifest


@pytest.fixture
def log():
    return []


def test_steps_are_begun_ahead_and_only_the_load_stops_the_engines(log):
    trainer = trainer_of(log, "rollout.max_staleness=1", "checkpoint.every=0")
    reports = train(trainer, Observer())
    # "sample v": a batch for the learner's version v. The second one is begun with the first, by version 0 as well.
    assert log == [
        *("publish 0", "load 0", "sample 0", "sample 1", "update", "pause", "publish 1", "load 1"),
        *("sample 2", "update", "pause", "publish 2", "load 2"),
        *("update", "pause", "publish 3", "load 3", "save 3", "saved"),
    ]
    assert [report.metrics["staleness"] for report in reports] == [0.0, 1.0, 1.0]
    assert [report.metrics["staleness_max"] for report in reports] == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("max_staleness", [0, 1, 2, 5])
def test_no_completion_is_older_than_allowed_and_every_step_gets_its_own_prompts(log, max_staleness):
    seen = []
    trainer = trainer_of(log, f"rollout.max_staleness={max_staleness}", "num_steps=8")
    reports = train(trainer, Observer(on_groups=lambda step, groups: seen.append([group.prompt.text for group in groups])))
    # 2 prompts a step, in the order of the walk, whatever was begun ahead.
    assert seen == [[f"{2 * step}+1=", f"{2 * step + 1}+1="] for step in range(8)]
    # Step s is sampled by version max(0, s - 1 - k), since the fake engine samples at once: staleness min(s - 1, k).
    assert [report.metrics["staleness_max"] for report in reports] == [min(s - 1, max_staleness) for s in range(1, 9)]


def test_the_learner_is_told_which_tokens_are_stale(log):
    trainer = trainer_of(log, "rollout.max_staleness=1")
    train(trainer, Observer())
    shares = [
        sum(int(micro.fresh_BT.sum()) for micro in mini.microbatches[0]) / mini.counts.num_loss_tokens
        for batch in trainer.learner.batches
        for mini in batch.minibatches
    ]
    assert shares == [1.0, 0.0, 0.0]


def test_samples_that_are_too_old_are_refused(log):
    class Forgetful(FakeSampler):
        """Says that it holds the new weights, and samples with the first ones."""

        def submit(self, batch):
            held, self.engine.policy_version = self.engine.policy_version, batch.policy_version
            super().submit(batch)
            self.engine.policy_version = held
            groups = self.sampled[batch.step, batch.round]
            for group in groups:
                for completion in group.completions:
                    object.__setattr__(completion, "policy_version", 0)

    trainer = trainer_of(log, "rollout.max_staleness=1", sampler=Forgetful(log))
    with pytest.raises(SyncError, match="step 3, group 0, sample 0: sampled by policy version 0, the step is at 1 to 2"):
        train(trainer, Observer())


def test_a_lost_learner_drops_what_was_begun_ahead(log):
    class Mortal(FakeLearner):
        def update(self, batch):
            if batch.step == 2 and "recover" not in self.log:
                raise WorkerLost("the learner died")
            return super().update(batch)

        def recover(self, lost):
            self.log.append("recover")
            self.version = 0
            return Progress()

    seen = []
    trainer = trainer_of(log, "rollout.max_staleness=2", learner=Mortal(log))
    train(trainer, Observer(on_groups=lambda step, groups: seen.append((step, [g.prompt.text for g in groups]))))
    first = [(1, ["0+1=", "1+1="]), (2, ["2+1=", "3+1="])]
    assert seen == [*first, *first, (3, ["4+1=", "5+1="])]
    assert "forget" in log


class ScorerByProblem(FakeScorer):
    """Only the groups of these problems have a spread of rewards."""

    def __init__(self, *informative):
        super().__init__()
        self.informative = informative

    def collect(self, groups):
        spread = {group.prompt.group_id: group.prompt.text in self.informative for group in groups}
        return [
            tuple(
                Score(reward=float(spread[g.prompt.group_id] and i == 1), breakdown={"accuracy": 0.0})
                for i in range(len(g.completions))
            )
            for g in groups
        ]


def sampled_by(log, scorer, *overrides, sampler=None):
    config = tiny_config("num_steps=3", "rollout.num_prompts=2", "rollout.group_size=3", *overrides)
    sampler = sampler or FakeSampler(log)
    sampler.load_weights(WeightManifest(policy_version=0, path="", num_bytes=0, tensors=()))
    steps = StepSampler(config, prompts, sampler, scorer, Progress())
    steps.begin(Progress())
    return steps.collect(1, Stopwatch()), steps


def texts(groups):
    return [group.prompt.text for group in groups]


def test_dynamic_sampling_goes_on_until_enough_groups_have_a_spread(log):
    # Round 1: problems 0 and 1, one is needed still. Round 2: 2. Round 3: 3, which has a spread.
    sampled, steps = sampled_by(log, ScorerByProblem("1+1=", "3+1="), "algorithm.zero_variance=resample")
    assert texts(sampled.groups) == ["1+1=", "3+1="]
    assert texts(sampled.others) == ["0+1=", "2+1="]
    assert sampled.num_rounds == 3
    assert [group.prompt.group_id for group in sampled.groups] == [1, 3]
    assert all(group.is_learnt for group in sampled.groups)
    assert not any(group.is_learnt for group in sampled.others)
    # The metrics are about all four: the choice would flatter the policy.
    metrics = step_metrics(sampled, 0, "accuracy")
    assert (metrics["sampling_rounds"], metrics["num_prompts"], metrics["zero_variance_share"]) == (3.0, 4.0, 0.5)
    assert metrics["num_loss_tokens"] == 2 * 3 * len("answer 0")
    # The next step goes on after the fourth problem.
    assert steps.num_prompts_drawn() == 4
    steps.begin(Progress(step=1, policy_version=0))
    assert texts(steps.collect(2, Stopwatch()).groups) == ["4+1=", "5+1="]


def test_one_problem_that_cannot_be_judged_is_no_reason_to_end_dynamic_sampling(log):
    class CannotJudge(ScorerByProblem):
        def collect(self, groups):
            if texts(groups) == ["2+1="]:
                return [tuple(Score(reward=None, breakdown={"accuracy": None}) for _ in g.completions) for g in groups]
            return super().collect(groups)

    sampled, _ = sampled_by(log, CannotJudge("1+1=", "3+1="), "algorithm.zero_variance=resample")
    assert texts(sampled.groups) == ["1+1=", "3+1="]


def test_dynamic_sampling_has_a_cap_and_keeps_the_shape_of_the_batch(log):
    sampled, _ = sampled_by(log, ScorerByProblem("1+1="), "algorithm.zero_variance=resample")
    assert sampled.num_rounds == MAX_ROUNDS == 10
    assert texts(sampled.groups) == ["0+1=", "1+1="]
    assert [group.is_learnt for group in sampled.groups] == [False, True]
    assert len(sampled.others) == 9  # one prompt in each further round
    batch = make_train_batch(
        sampled.groups, step=1, policy_version=0, num_minibatches=2, max_tokens_per_microbatch=1000, max_completion_tokens=96
    )
    assert [mini.counts.num_sequences for mini in batch.minibatches] == [0, 3]


@pytest.mark.parametrize(("choice", "learnt"), [("keep", [True, True]), ("drop", [False, True])])
def test_groups_without_a_spread_are_kept_or_leave_the_counts(log, choice, learnt):
    sampled, _ = sampled_by(log, ScorerByProblem("1+1="), f"algorithm.zero_variance={choice}")
    assert [group.is_learnt for group in sampled.groups] == learnt
    assert (sampled.others, sampled.num_rounds) == ([], 1)
    assert sampled.groups[0].advantages == (0.0, 0.0, 0.0)
    batch = make_train_batch(
        sampled.groups, step=1, policy_version=0, num_minibatches=1, max_tokens_per_microbatch=1000, max_completion_tokens=96
    )
    assert batch.minibatches[0].counts.num_sequences == 3 * sum(learnt)


def test_oversampling_takes_the_first_to_be_finished_and_cuts_off_the_rest(log):
    # 2 prompts x 1.6 = 3.2, so 4 are begun; the fake finishes the last first.
    sampled, steps = sampled_by(log, FakeScorer(), "rollout.oversampling=1.6")
    assert texts(sampled.groups) == ["2+1=", "3+1="]
    assert sampled.others == []
    assert log[-1] == "cut off 1"
    assert steps.num_prompts_drawn() == 4


def test_oversampling_and_sampling_on_go_together(log):
    # Round 1: of 0..3 the last two are taken, 3 has a spread. Round 2: one is wanted, 2 are begun (4, 5), 5 is taken.
    sampled, steps = sampled_by(
        log, ScorerByProblem("3+1=", "5+1="), "rollout.oversampling=1.6", "algorithm.zero_variance=resample"
    )
    assert (texts(sampled.groups), texts(sampled.others)) == (["3+1=", "5+1="], ["2+1="])
    assert len({group.prompt.group_id for group in [*sampled.groups, *sampled.others]}) == 3
    assert steps.num_prompts_drawn() == 6


def test_a_run_goes_on_drawing_before_the_first_prompt_that_it_has_not_learnt_from(log):
    saved = []

    class Saving(FakeLearner):
        def save(self, progress):
            saved.append(progress)

    train(trainer_of(log, "rollout.max_staleness=1", "checkpoint.every=1", learner=Saving(log)), Observer())
    # After step 1 the prompts 2 and 3 of step 2 are drawn and not learnt from.
    assert [(progress.step, progress.num_prompts_drawn) for progress in saved] == [(1, 2), (2, 4), (3, 6)]


def test_a_sampler_that_returns_more_than_was_begun_is_refused(log):
    class Generous(FakeSampler):
        def collect(self, batch):
            groups = self.sampled[batch.step, batch.round]
            yield from [groups[0], groups[0]]

    with pytest.raises(RunError, match=r"asked for 2 of the groups \[0, 1, 2, 3\], the sampler returned \[0, 0\]"):
        sampled_by(log, FakeScorer(), "rollout.oversampling=1.6", sampler=Generous(log))


def test_a_completion_whose_weights_changed_is_stale_up_to_there(log):
    from r1.batching import _Row

    def stale(version, later=()):
        completion = SimpleNamespace(policy_version=version, later_versions=later, token_ids=tuple(range(9)))
        return _Row(None, completion, 0.0, policy_version=7, num_columns=0).num_stale

    assert stale(7) == 0
    assert stale(6) == 9
    assert stale(5, ((6, 2), (7, 4))) == 4  # tokens 0 to 3 are older
    assert stale(5, ((6, 2),)) == 9
