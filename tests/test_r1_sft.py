from itertools import repeat
from math import inf, log
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from r1.errors import RunError
from r1.sft import IGNORED_LABEL, SftBatch, SftExample, SftOptions, next_token_loss, pad_examples, train_on_next_tokens


class BigramModel(nn.Module):
    """The smallest causal model: the logits of the next token depend on the current token alone."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.logits = nn.Embedding(vocabulary_size, vocabulary_size)
        nn.init.zeros_(self.logits.weight)

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits(input_ids))


def test_examples_are_shifted_and_only_completions_become_labels():
    batch = pad_examples(
        [
            SftExample(prompt_token_ids=(5, 6), completion_token_ids=(7, 1)),
            SftExample(prompt_token_ids=(5,), completion_token_ids=(1,)),
        ],
        pad_token_id=0,
    )
    # 5 6 7 1: after 6 comes 7, after 7 comes 1; after 5 comes 6, which is prompt. 5 1: after 5 comes 1.
    assert batch.token_ids_BT.tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch.labels_BT.tolist() == [[IGNORED_LABEL, 7, 1], [1, IGNORED_LABEL, IGNORED_LABEL]]


def test_an_example_without_a_prompt_is_refused():
    with pytest.raises(AssertionError, match="needs a prompt token"):
        pad_examples([SftExample(prompt_token_ids=(), completion_token_ids=(7, 1))], pad_token_id=0)


def test_the_loss_is_the_mean_over_the_labels_that_count():
    # Probabilities 3/4 and 1/4 at each position. Labels 0, 1 and one that is ignored:
    # -(log 3/4 + log 1/4) / 2, not divided by 3, and whatever the ignored position predicts.
    logits_BTV = torch.tensor([[[log(3.0), 0.0], [log(3.0), 0.0], [50.0, -50.0]]])
    loss = next_token_loss(logits_BTV, torch.tensor([[0, 1, IGNORED_LABEL]]))
    assert loss.item() == pytest.approx(-(log(3 / 4) + log(1 / 4)) / 2)


def test_logits_that_do_not_fit_the_labels_are_refused():
    with pytest.raises(ValueError, match=r"logits \(1, 3, 4\) and labels \(1, 2\)"):
        next_token_loss(torch.zeros(1, 3, 4), torch.zeros(1, 2, dtype=torch.long))


def test_masked_tokens_are_not_learnt():
    model = BigramModel(4)
    batch = pad_examples([SftExample(prompt_token_ids=(0, 1), completion_token_ids=(2,))], pad_token_id=3)
    list(train_on_next_tokens(model, repeat(batch), SftOptions(num_steps=3, learning_rate=0.1)))
    moved = model.logits.weight.detach().abs().sum(dim=1) > 0
    assert moved.tolist() == [False, True, False, False]  # only the step 1 -> 2 is learnt; 0 -> 1 is prompt


def test_a_few_steps_learn_a_pattern():
    batch = pad_examples([SftExample(prompt_token_ids=(0,), completion_token_ids=(1, 2, 3))], pad_token_id=0)
    reports = list(train_on_next_tokens(BigramModel(4), repeat(batch), SftOptions(num_steps=60, learning_rate=0.3)))
    assert reports[0].loss == pytest.approx(log(4))  # uniform over four tokens
    assert reports[-1].loss < 0.02
    assert [report.step for report in reports] == list(range(1, 61))
    assert {report.num_loss_tokens for report in reports} == {3}


def test_the_learning_rate_climbs_then_follows_a_cosine_to_zero():
    options = SftOptions(num_steps=7, learning_rate=1.0, num_warmup_steps=3)
    # Warm-up 1/4, 2/4, 3/4; then (1 + cos(pi k/4)) / 2 for k = 0 .. 3: 1, 0.853553, 0.5, 0.146447.
    expected = [0.25, 0.5, 0.75, 1.0, 0.853553, 0.5, 0.146447]
    assert [options.learning_rate_at(step) for step in range(7)] == pytest.approx(expected, abs=1e-6)
    batch = pad_examples([SftExample(prompt_token_ids=(0,), completion_token_ids=(1,))], pad_token_id=0)
    reports = list(train_on_next_tokens(BigramModel(2), repeat(batch), options))
    assert [report.learning_rate for report in reports] == pytest.approx(expected, abs=1e-6)


def test_a_gradient_that_is_not_finite_stops_the_training_before_the_update():
    model = BigramModel(2)
    with torch.no_grad():
        model.logits.weight[0, 0] = inf
    batch = SftBatch(token_ids_BT=torch.tensor([[0]]), labels_BT=torch.tensor([[1]]))
    with pytest.raises(RunError, match="gradient norm nan in step 1"):
        list(train_on_next_tokens(model, repeat(batch), SftOptions(num_steps=1, learning_rate=0.1)))
    assert model.logits.weight[1].tolist() == [0.0, 0.0]
