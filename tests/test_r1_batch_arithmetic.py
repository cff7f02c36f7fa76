"""What the figures of two published recipes come to, by hand."""

import pytest
from tiny import MODEL, ROOT

from r1.batch_arithmetic import batch_arithmetic, batch_lines
from r1.config import load_config
from r1.prompt_mix import TrainedTask

DAPO = TrainedTask(name="dapo_math", num_problems=16_528)  # 17,398 without the twentieth that is held out


def counts_of(stem, num_evaluated=256):
    config = load_config(ROOT / f"launch/configs/{stem}.toml")
    return config, batch_arithmetic(config, tasks=[DAPO], num_evaluated=num_evaluated)


def test_the_arithmetic_of_r1_zero_by_hand():
    config, counts = counts_of("r1_zero")
    # A rollout of the paper: 8,192 outputs of 16 a question are 512 questions, in 16 mini-batches of 32 x 16 = 512.
    assert (counts.prompts, counts.completions) == (512, 8_192)
    assert (counts.updates, counts.prompts_per_update, counts.completions_per_update) == (16, 32, 512)
    # 8,192 x 32,768 = 2^13 x 2^15 = 2^28; with prompts 8,192 x (2,048 + 32,768) = 8,192 x 34,816
    assert (counts.sampled_tokens, counts.tokens) == (268_435_456, 285_212_672)
    # 650 x 16 = 10,400 updates, the paper's; the reference is replaced after 25 x 16 = 400 of them.
    assert (counts.steps, counts.all_updates) == (650, 10_400)
    assert config.algorithm.reference_every * counts.updates == 400
    # 650 x 512 = 332,800 prompts of 16,528 problems
    assert counts.epochs == pytest.approx([20.1355], abs=1e-4)
    assert counts.all_completions == 5_324_800  # 650 x 8,192
    # A row of 2,048 + 32,768 - 1 tokens fills a micro-batch of 34,816; 512 rows on 32 ranks are 16 for each.
    assert (counts.longest_row, counts.microbatches) == (34_815, 16)
    assert counts.in_flight == 8_192  # 32 engines x 256: a whole step at once
    # Before the first step, and every 25 of 650: 1 + 26. The 256 of evaluate.num_completions, and 26 checkpoints.
    assert (counts.evaluations, counts.evaluated_completions, counts.checkpoints) == (27, 256, 26)
    assert (counts.prompts_begun, counts.prompts_at_most, counts.completions_at_most) == (512, 512, 8_192)
    lines = batch_lines(config, counts, [DAPO])
    assert "step: 512 prompts x 16 completions = 8,192 completions" in lines
    assert "updates of a step: 16, each on 32 prompts x 16 = 512 completions" in lines


def test_the_arithmetic_of_dapo_by_hand():
    config, counts = counts_of("dapo", num_evaluated=496)
    assert (counts.prompts, counts.completions) == (512, 8_192)
    assert (counts.updates, counts.prompts_per_update, counts.completions_per_update) == (16, 32, 512)
    # 16,384 + 4,096 = 20,480 tokens; 8,192 x 20,480; 8,192 x 22,528
    assert (counts.sampled_tokens, counts.tokens) == (167_772_160, 184_549_376)
    # soft_overlong's cache is a fifth of the limit: 20,480 / 5 = 4,096
    assert config.rollout.max_completion_tokens * 0.2 == 4_096
    # Ten rounds of dynamic sampling, each of 512 prompts at most: 5,120 x 16.
    assert (counts.prompts_at_most, counts.completions_at_most) == (5_120, 81_920)
    assert "worst case of a step: 10 rounds x 512 prompts x 16 = 81,920 completions" in batch_lines(config, counts, [DAPO])
    # 320 x 16; the warm-up of 20 rollouts is 20 x 16 = 320 updates.
    assert (counts.all_updates, config.learner.warmup_steps) == (5_120, 320)
    assert counts.epochs == pytest.approx([9.9129], abs=1e-4)  # 320 x 512 = 163,840 prompts
    # 512 completions of an update on 128 ranks are 4 each, and a row of 22,527 fills a micro-batch.
    assert (counts.longest_row, counts.microbatches) == (22_527, 4)
    assert counts.in_flight == 8_192  # 32 engines x 256
    # Every 5 of 320 and before the first.
    assert (counts.evaluations, counts.evaluated_completions, counts.checkpoints) == (65, 496, 64)


def test_the_arithmetic_of_oversampling():
    config = load_config(ROOT / "launch/configs/quickstart.toml", ["rollout.oversampling=1.3", f"model.path={MODEL}"])
    tasks = [TrainedTask(name="arithmetic", num_problems=210)]
    counts = batch_arithmetic(config, tasks=tasks, num_evaluated=256)
    # 16 x 1.3 = 20.8, so 21 prompts are begun, of which 16 count; 50 x 21 / 210 = 5 epochs
    assert (counts.prompts_begun, counts.prompts, counts.completions_at_most) == (21, 16, 336)
    assert counts.epochs == [5.0]
    # A row has 16 + 96 - 1 = 111 tokens, 36 of them fit into 4,096, and 256 rows make 8 micro-batches.
    assert counts.microbatches == 8
    assert "worst case of a step: 21 prompts begun x 16 = 336 completions" in batch_lines(config, counts, tasks)


def test_each_task_of_a_mixture_has_epochs_of_its_own():
    config = load_config(ROOT / "launch/configs/quickstart.toml", [f"model.path={MODEL}"])
    tasks = [TrainedTask(name="few", num_problems=10, share=0.95), TrainedTask(name="many", num_problems=2000, share=0.05)]
    counts = batch_arithmetic(config, tasks=tasks, num_evaluated=256)
    # 50 x 16 = 800 prompts: 760 of 10 problems, and 40 of 2,000
    assert counts.epochs == pytest.approx([76.0, 0.02])
    line = "epochs over the training problems: few 76.00 (95.0% of the prompts), many 0.02 (5.0% of the prompts)"
    assert line in batch_lines(config, counts, tasks)
