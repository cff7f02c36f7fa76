"""Expected values are worked out by hand in the comments."""

import pytest
import torch

from r1.algorithm import AGGREGATIONS
from r1.algorithm.aggregation import BatchCounts, constant, sequence_mean, token_mean

MASK = torch.tensor([[True, True, True, False], [True, False, False, False]])
COUNTS = BatchCounts(num_sequences=2, num_loss_tokens=4, max_completion_tokens=8)


@pytest.mark.parametrize(
    ("aggregation", "long_row", "short_row"),
    [
        (sequence_mean, 1 / 6, 1 / 2),  # 1 / (2 sequences x 3 tokens), 1 / (2 x 1)
        (token_mean, 1 / 4, 1 / 4),  # 1 / 4 tokens
        (constant, 1 / 16, 1 / 16),  # 1 / (2 sequences x 8)
    ],
)
def test_weights(aggregation, long_row, short_row):
    weights = aggregation(MASK, COUNTS)
    assert weights[0].tolist() == pytest.approx([long_row] * 3 + [0.0])
    assert weights[1].tolist() == pytest.approx([short_row, 0.0, 0.0, 0.0])
    assert weights.dtype == torch.float32


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_weights_do_not_depend_on_the_split(name):
    aggregation = AGGREGATIONS[name]
    whole = aggregation(MASK, COUNTS)
    # The second row alone is also cut to its own width, as another micro-batch would be.
    assert torch.equal(aggregation(MASK[:1], COUNTS), whole[:1])
    assert torch.equal(aggregation(MASK[1:, :1], COUNTS), whole[1:, :1])


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_a_fully_masked_row_weighs_nothing_and_takes_nothing_from_the_others(name):
    aggregation = AGGREGATIONS[name]
    weights = aggregation(torch.cat([MASK, torch.zeros(1, 4, dtype=torch.bool)]), COUNTS)
    assert weights[2].tolist() == [0.0] * 4
    assert torch.equal(weights[:2], aggregation(MASK, COUNTS))


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_a_batch_without_a_loss_token_weighs_nothing(name):
    counts = BatchCounts(num_sequences=0, num_loss_tokens=0, max_completion_tokens=8)
    assert AGGREGATIONS[name](torch.zeros(2, 3, dtype=torch.bool), counts).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_other_masks_are_refused(name):
    for bad in (MASK.float(), MASK[0]):
        with pytest.raises(ValueError, match="bool"):
            AGGREGATIONS[name](bad, COUNTS)


@pytest.mark.parametrize("bad", [{"num_sequences": -1}, {"num_loss_tokens": -1}, {"max_completion_tokens": 0}])
def test_impossible_counts_are_refused(bad):
    with pytest.raises(ValueError, match="counts"):
        BatchCounts(**{"num_sequences": 1, "num_loss_tokens": 1, "max_completion_tokens": 1} | bad)
