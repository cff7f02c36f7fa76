"""The loop's three Protocols in a few lines each, and a trainer made of them."""

import math

from tiny import tiny_config

from r1.loop import Trainer
from r1.rollout.engine import generate
from r1.rollout.scripted_engine import ScriptedEngine
from r1.types import Prompt, PromptBatch, Score, WeightManifest
from tasks.arithmetic import addition


class FakeSampler:
    """A scripted engine, with the sync reduced to its order."""

    def __init__(self, log):
        self.engine, self.log = ScriptedEngine(lambda text, sample_id: f"answer {sample_id}"), log
        self.sampled = {}

    def submit(self, batch):
        """Sampled at once, with what the engine holds: as stale as can be."""
        self.log.append(f"sample {batch.policy_version}")
        self.sampled[batch.step, batch.round] = generate(self.engine, batch)

    def collect(self, batch):
        yield from reversed(self.sampled[batch.step, batch.round])  # in whatever order

    def cut_off(self, batch):
        self.log.append(f"cut off {batch.step}")

    def pause(self):
        self.log.append("pause")

    def forget(self):
        self.log.append("forget")

    def load_weights(self, manifest):
        self.log.append(f"load {manifest.policy_version}")
        self.engine.receive_weights(manifest, verify=True)
        self.engine.load_weights()


class FakeScorer:
    """The second sample of each group is right."""

    def __init__(self):
        self.groups = []

    def submit(self, group):
        self.groups.append(group)

    def forget(self):
        self.groups = []

    def collect(self, groups):
        assert all(group in self.groups for group in groups)
        self.groups = []
        return [
            tuple(Score(reward=float(i == 1), breakdown={"accuracy": float(i == 1)}) for i in range(len(g.completions)))
            for g in groups
        ]


class FakeLearner:
    def __init__(self, log):
        self.version, self.log, self.batches = 0, log, []

    def update(self, batch):
        self.log.append("update")
        self.batches.append(batch)
        self.version += 1
        return {"loss": 0.0}

    def token_values(self, group_ids):
        return {}

    def publish_weights(self):
        self.log.append(f"publish {self.version}")
        return WeightManifest(policy_version=self.version, path="", num_bytes=0, tensors=())

    def save(self, progress):
        self.log.append(f"save {progress.step}")

    def finish_save(self, limit_s=math.inf):
        self.log.append("saved" if limit_s == math.inf else f"saved within {limit_s:.0f} s")


def prompts(progress, num_prompts):
    """Problem n of the walk is n+1=."""
    step = progress.step + 1
    numbers = [progress.num_prompts_drawn + i for i in range(num_prompts)]
    made = tuple(
        Prompt(group_id=i, task="t", problem=addition(n, 1), text=f"{n}+1=", prefill="", token_ids=(1, 2))
        for i, n in enumerate(numbers)
    )
    return PromptBatch(step=step, prompts=made, group_size=3, policy_version=progress.policy_version, seed=0)


def trainer_of(log, *overrides, **parts):
    config = tiny_config("num_steps=3", "checkpoint.every=2", "rollout.num_prompts=2", "rollout.group_size=3", *overrides)
    defaults = {"prompts": prompts, "sampler": FakeSampler(log), "scorer": FakeScorer(), "learner": FakeLearner(log)}
    return Trainer(config=config, correctness="accuracy", **{**defaults, **parts})
