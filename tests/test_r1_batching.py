from r1.batching import make_train_batch
from r1.types import Completion, Prompt, ScoredGroup
from tasks.arithmetic import addition


def group(prompt_ids, completions, advantages, group_id=0):
    prompt = Prompt(group_id=group_id, task="t", problem=addition(1, 1), text="", prefill="", token_ids=tuple(prompt_ids))
    made = tuple(
        Completion(
            group_id=group_id,
            sample_id=i,
            token_ids=tuple(ids),
            rollout_logprobs=tuple(-float(token) for token in ids),
            text="",
            finish_reason="stop",
            policy_version=0,
        )
        for i, ids in enumerate(completions)
    )
    return ScoredGroup(prompt=prompt, completions=made, scores=(), advantages=tuple(advantages))


def batch_of(groups, **options):
    defaults = {
        "step": 1,
        "policy_version": 0,
        "num_minibatches": 1,
        "max_tokens_per_microbatch": 1000,
        "max_completion_tokens": 8,
    }
    return make_train_batch(groups, **{**defaults, **options})


def test_rows_are_shifted_padded_and_masked():
    # Prompt 5 6, completions 7 8 9 and 7: inputs without the last token, labels one ahead.
    [minibatch] = batch_of([group([5, 6], [[7], [7, 8, 9]], [-0.5, 0.5])]).minibatches
    [[micro]] = minibatch.microbatches
    # The longer row comes first.
    assert micro.token_ids_BT.tolist() == [[5, 6, 7, 8], [5, 6, 0, 0]]
    assert micro.labels_BT.tolist() == [[6, 7, 8, 9], [6, 7, 0, 0]]
    assert micro.attention_mask_BT.tolist() == [[True] * 4, [True, True, False, False]]
    # The last prompt token predicts the first completion token.
    assert micro.loss_mask_BT.tolist() == [[False, True, True, True], [False, True, False, False]]
    assert micro.rollout_logprobs_BT.tolist() == [[0.0, -7.0, -8.0, -9.0], [0.0, -7.0, 0.0, 0.0]]
    assert micro.advantages_BT.tolist() == [[0.0, 0.5, 0.5, 0.5], [0.0, -0.5, 0.0, 0.0]]


def test_counts_are_those_of_the_whole_minibatch():
    [minibatch] = batch_of([group([5], [[7], [7, 8, 9]], [0, 0])], max_tokens_per_microbatch=1).minibatches
    assert len(minibatch.microbatches[0]) == 2
    assert (minibatch.counts.num_sequences, minibatch.counts.num_loss_tokens, minibatch.counts.max_completion_tokens) == (2, 4, 8)


def test_no_microbatch_exceeds_its_budget_and_no_row_is_lost():
    groups = [group([5] * (1 + g), [[7] * (1 + (g * s) % 5) for s in range(4)], [0.0] * 4, g) for g in range(6)]
    [minibatch] = batch_of(groups, max_tokens_per_microbatch=24).minibatches
    shapes = [micro.token_ids_BT.shape for micro in minibatch.microbatches[0]]
    assert sum(rows for rows, _ in shapes) == 24
    assert all(rows * columns <= 24 for rows, columns in shapes)
    assert sum(int(micro.loss_mask_BT.sum()) for micro in minibatch.microbatches[0]) == minibatch.counts.num_loss_tokens


def test_minibatches_share_the_groups_evenly():
    batch = batch_of([group([5], [[7], [8]], [1.0, -1.0], g) for g in range(6)], num_minibatches=3)
    assert [minibatch.counts.num_sequences for minibatch in batch.minibatches] == [4, 4, 4]
