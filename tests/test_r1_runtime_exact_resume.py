"""kill -9 or SIGTERM at any moment, and the resumed run ends bitwise where an undisturbed one does: real Ray, real vLLM."""

import functools
import json
import random
import signal
import time

import pytest
import torch
from processes import QUICKSTART, Program
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from r1.checkpoint import latest_checkpoint
from r1.metrics import read_metrics
from r1.run_folder import evaluated_steps
from r1.traces import read_traces

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.beside, pytest.mark.timeout(600)]
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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """num_ranks -> (its options, all that it ended with), of a run that is made when it is first asked for."""

    @functools.cache
    def of(num_ranks):
        folder = tmp_path_factory.mktemp("straight")
        shared = options(folder, num_ranks)
        finish(QUICKSTART, *shared, f"run_dir={folder / 'run'}")
        return shared, everything(folder / "run", folder / "straight.pt")

    return of


# SIGTERM: the run saves its last step, where kill -9 leaves it at the last checkpoint that was due.
@pytest.mark.parametrize(("num_ranks", "ending"), [(1, "kill"), (1, "stop"), (2, "kill")])
def test_a_run_that_was_ended_early_ends_where_an_undisturbed_one_does(tmp_path, undisturbed, num_ranks, ending):
    shared, straight = undisturbed(num_ranks)
    run_dir = tmp_path / "run"

    # Without checkpoints that are due, all there is to go on from is what a stopped run saves.
    program = Program(QUICKSTART, *shared, *(["checkpoint.every=0"] if ending == "stop" else []), f"run_dir={run_dir}")
    program.wait_for_step(run_dir, 3)
    while ending == "kill" and not (run_dir / "checkpoints/latest").exists():
        program.wait_for_step(run_dir, 3)
        time.sleep(0.1)
    moment_s = random.uniform(0.0, 2.0)  # not seeded: over the months it comes by everywhere
    time.sleep(moment_s)
    if ending == "kill":
        program.kill_all()
    else:
        program.process.send_signal(signal.SIGTERM)
        code, _, err = program.wait()
        assert code in (0, 143), err  # 0: it was done by then
    last_step = max((event["step"] for event in read_metrics(run_dir)), default=0)
    saved = latest_checkpoint(run_dir)[1].step
    print(f"{ending} {moment_s:.3f} s later, {last_step} steps logged, step {saved} saved")
    assert ending == "kill" or saved == last_step
    if saved < NUM_STEPS or NUM_STEPS not in evaluated_steps(run_dir):
        finish("--resume", str(run_dir))

    events, rows, progress, tensors = straight
    assert [step for kind, step, _ in events if kind == "step"] == list(range(1, NUM_STEPS + 1))
    again = everything(run_dir, tmp_path / "again.pt")
    assert again[0] == events
    assert again[1] == rows
    assert again[2] == progress
    assert again[3].keys() == tensors.keys()
    assert [name for name, tensor in tensors.items() if not torch.equal(tensor, again[3][name])] == []
