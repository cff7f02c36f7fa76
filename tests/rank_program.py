"""One learner rank in a process of its own, for tests/test_r1_ranks.py: `python rank_program.py RANK NUM_RANKS PORT FOLDER WHAT [OPTION=VALUE ...]`."""

import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from tiny import scored_group, tiny_config

from r1.batching import make_train_batch
from r1.learner import Learner
from r1.ranks import whole
from r1.shm_weights import read_tensors

SHORT, MIDDLE = "<answer>13</answer>", "<think>easy 1 2 3 4 5 6 7 8 9</think><answer>12</answer>"
LONG = "<think>" + "1 2 3 4 5 6 7 8 9 0 " * 6 + "</think><answer>12</answer>"


def batch_for(num_ranks, max_tokens, policy_version=0):
    """Very unequal lengths, and one row without a token that counts (the completion whose advantage is 0.3)."""
    texts = [[LONG, SHORT, SHORT, MIDDLE], [SHORT, LONG, MIDDLE, SHORT]]
    groups = [
        scored_group("6+7=", texts[0], [1.5, -0.5, -0.7, 0.3]),
        scored_group("50+7=", texts[1], [-1, 1, 0.5, -0.5], group_id=1),
    ]
    batch = make_train_batch(
        groups,
        step=1,
        policy_version=policy_version,
        num_minibatches=1,
        max_tokens_per_microbatch=max_tokens,
        max_completion_tokens=96,
        num_ranks=num_ranks,
    )
    num_masked = 0
    for micro in (micro for of_rank in batch.minibatches[0].microbatches for micro in of_rank):
        masked_B = (micro.advantages_BT == torch.tensor(0.3)).any(-1)
        num_masked += int(micro.loss_mask_BT[masked_B].sum())
        micro.loss_mask_BT[masked_B] = False
    counts = batch.minibatches[0].counts
    counts = replace(counts, num_sequences=counts.num_sequences - 1, num_loss_tokens=counts.num_loss_tokens - num_masked)
    assert num_masked > 0
    return replace(batch, minibatches=(replace(batch.minibatches[0], counts=counts),))


def gradient_of(learner, batch):
    metrics = learner._forward_backward(batch.minibatches[0], None)
    trained = [parameter for parameter in learner.policy.parameters() if parameter.requires_grad]
    gradient = torch.cat([whole(parameter.grad).flatten() for parameter in trained])
    learner.optimizer.zero_grad(set_to_none=True)
    return gradient, metrics


def move_adapter(learner):
    """Away from the start, where B is zero: A has no gradient there, and the reference would be the policy."""
    for name, parameter in learner.policy.named_parameters():
        if ".lora_B." in name:
            parameter.data.add_(0.02)


def main(rank, num_ranks, port, folder, what, *overrides):
    options = ("num_threads=1", f"learner.num_ranks={num_ranks}", "sync.verify=off", "algorithm.kl_coef=0.01")
    config = tiny_config(*options, *overrides)
    learner = Learner(config, f"{folder}/shm", rank=rank, num_ranks=num_ranks, meeting_point=f"tcp://127.0.0.1:{port}")
    if config.learner.lora_rank:
        move_adapter(learner)
    if what == "gradient":
        batch = batch_for(num_ranks, max_tokens={1: 165, 2: 240, 4: 2000}[num_ranks])
        gradient, metrics = gradient_of(learner, batch)
        num_parts = len(batch.minibatches[0].microbatches[0])
        result = {"gradient": gradient, "metrics": metrics, "num_parts": num_parts, "weights": published(learner)}
    elif what == "train":  # two updates, a checkpoint, one more
        for version in range(2):
            learner.update(batch_for(num_ranks, 240, version))
        Path(folder, "checkpoint").mkdir(exist_ok=True)
        learner.start_save(Path(folder, "checkpoint"))
        metrics = learner.update(batch_for(num_ranks, 240, 2))  # beside the writing
        learner.finish_save()
        result = {"metrics": metrics, "weights": published(learner)}
    else:  # go on from the checkpoint
        learner.load(what)
        metrics = learner.update(batch_for(num_ranks, 240, 2))
        result = {"metrics": metrics, "weights": published(learner)}
    if rank == 0:
        torch.save(result, f"{folder}/result.pt")


def published(learner):
    manifest = learner.publish_weights()
    return {name: tensor.clone() for name, tensor in read_tensors(manifest)} if manifest is not None else None


def leave_together():
    """End this process when no other needs it.

    A rank that ends at once breaks the last collective of one that is slower to notice that it has all (gloo then raises
    "Connection closed by peer"), and ends with SIGABRT if its own thread of gloo is not done with that collective: seen in 1
    of some 200 runs on a busy machine.
    """
    print("done", flush=True)
    sys.stdin.read()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
    leave_together()
