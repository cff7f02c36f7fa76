"""A reward file that misbehaves on command, and pools of children that run it."""

import os
import time
from pathlib import Path

import pytest

from r1.config import ScoringConfig
from r1.scoring import RewardPool
from r1.types import Completion, Prompt, RolloutGroup
from tasks.base import Problem

REWARD_FILE = """
import os, subprocess, sys, time

def length(completion, reference):
    return float(len(completion))

def is_gold(completion, reference):
    return completion == reference["answer"]

def on_command(completion, reference):
    if completion == "raise":
        raise KeyError("no such gold")
    if completion == "exit":
        sys.exit(3)
    if completion == "hang":
        while True:
            pass
    if completion == "hang in C":
        return 7 ** 200_000_000 % 2
    if completion == "hog":
        return len(bytearray(8 << 30))
    if completion == "print":
        print("[1.0, null]", flush=True)
        os.write(1, b"[1.0, null]\\n")
        return float(len(sys.stdin.read()))
    if completion == "start a process":
        process = subprocess.Popen(["sleep", "600"])
        open(reference["pid_file"], "w").write(str(process.pid))
        time.sleep(600)
    if completion == "die once" and not os.path.exists(reference["marker"]):
        open(reference["marker"], "w").close()
        os.kill(os.getpid(), 9)
    if completion == "crash":
        os.abort()
    if completion == "die":
        os.kill(os.getpid(), 9)
    if completion == "slowly":
        time.sleep(0.05)
    return {"nan": float("nan"), "text": "1.0", "none": None}.get(completion, 1.0)
"""


@pytest.fixture(scope="module")
def reward_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rewards") / "some_rewards.py"
    path.write_text(REWARD_FILE)
    return str(path)


@pytest.fixture(scope="module")
def on_command(reward_file):
    return f"{reward_file}:on_command"


@pytest.fixture(scope="module")
def shared_pool(on_command):
    with RewardPool({on_command: 1.0}, ScoringConfig(deadline_s=0.5), num_children=2) as pool:
        yield pool


def child_pids(pool):
    return [child.process.pid for child in pool._children]


def is_alive(pid):
    try:
        os.kill(pid, 0)
        # A zombie is dead: it only waits for its parent, or init, to read its exit code.
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until(condition, limit_s=5.0):
    give_up_at = time.monotonic() + limit_s
    while not condition() and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert condition()


def group(group_id, texts, gold="4", prefill=""):
    problem = Problem(problem_id=f"problem-{group_id}", question="2+2=", reference={"answer": gold})
    prompt = Prompt(group_id=group_id, task="test", problem=problem, text="2+2=" + prefill, prefill=prefill, token_ids=(1,))
    completions = tuple(
        Completion(
            group_id=group_id,
            sample_id=i,
            token_ids=(1,),
            rollout_logprobs=(-1.0,),
            text=text,
            finish_reason="stop",
            policy_version=0,
        )
        for i, text in enumerate(texts)
    )
    return RolloutGroup(prompt=prompt, completions=completions)
