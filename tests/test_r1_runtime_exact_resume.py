"""kill -9 at any moment, and the resumed run ends bitwise where an undisturbed one does: real Ray, real vLLM."""

import json
import random
import time

import pytest
import torch
from processes import QUICKSTART, Program
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from r1.checkpoint import latest_checkpoint
from r1.metrics import read_metrics
from r1.traces import read_traces

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]
NUM_STEPS = 9
# 5 problems and 4 prompts a step: nearly every step crosses the border of an epoch, step 5 ends at one.
QUESTIONS = [f"{first}+{second}=" for first, second in ((12, 34), (5, 77), (81, 14), (6, 9), (45, 50))]
HELDOUT = [f"{first}+{second}=" for first, second in ((23, 51), (70, 8), (3, 4), (99, 2))]


def write_problems(path, questions):
    rows = [{"question": text, "answer": f"#### {sum(map(int, text.rstrip('=').split('+')))}"} for text in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def options(folder, num_ranks):
    return [
        "task.name=gsm8k",
        f"task.path={write_problems(folder / 'train.jsonl', QUESTIONS)}",
        f"task.heldout_path={write_problems(folder / 'heldout.jsonl', HELDOUT)}",
        f"num_steps={NUM_STEPS}",
        "rollout.num_prompts=4",
        "rollout.group_size=4",
        "evaluate.every=2",
        f"evaluate.num_completions={len(HELDOUT)}",  # one of each problem
        "checkpoint.every=2",
        "learner.minibatches_per_step=2",
        "learner.schedule=cosine",
        f"learner.num_ranks={num_ranks}",
        "num_threads=1",
        "algorithm.kl_coef=0.01",
        "algorithm.reference_every=3",
    ]


def finish(*arguments):
    code, _, err = Program(*arguments).wait()
    assert code == 0, err


def everything(run_dir, scratch):
    """What must be the same: all metrics of all steps, all completions, and every tensor that the learner keeps."""
    events = [(event["kind"], event["step"], event["metrics"]) for event in read_metrics(run_dir)]
    rows = [
        (step, split, row.token_ids, row.reward)
        for step in range(1, NUM_STEPS + 1)
        for split in ("train", "heldout")
        if split == "train" or step % 2 == 0
        for row in read_traces(run_dir, step, split=split)
    ]
    checkpoint, progress = latest_checkpoint(run_dir)
    dcp_to_torch_save(checkpoint / "learner", scratch)
    return events, rows, progress, torch.load(scratch, weights_only=True)


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_killed_run_ends_where_an_undisturbed_one_does(tmp_path, num_ranks):
    shared = options(tmp_path, num_ranks)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finish(QUICKSTART, *shared, f"run_dir={straight}")

    program = Program(QUICKSTART, *shared, f"run_dir={killed}")
    program.wait_for_step(killed, 3)
    while not (killed / "checkpoints/latest").exists():
        program.wait_for_step(killed, 3)
        time.sleep(0.1)
    moment_s = random.uniform(0.0, 2.0)  # not seeded: over the months it comes by everywhere
    time.sleep(moment_s)
    program.kill_all()
    last_step = max((event["step"] for event in read_metrics(killed)), default=0)
    print(f"killed {moment_s:.3f} s after the first checkpoint, {last_step} steps logged, {latest_checkpoint(killed)[1]}")
    if latest_checkpoint(killed)[1].step < NUM_STEPS:
        finish("--resume", str(killed))

    events, rows, progress, tensors = everything(straight, tmp_path / "straight.pt")
    assert [step for kind, step, _ in events if kind == "step"] == list(range(1, NUM_STEPS + 1))
    again = everything(killed, tmp_path / "killed.pt")
    assert again[0] == events
    assert again[1] == rows
    assert again[2] == progress
    assert again[3].keys() == tensors.keys()
    assert [name for name, tensor in tensors.items() if not torch.equal(tensor, again[3][name])] == []
