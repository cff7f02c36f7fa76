"""Every shipped configuration: two steps of it with a tiny model in its place, and its dry run."""

import json
import math

import pytest
import torch
from tiny import ROOT
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import tasks.countdown
from r1.config import load_config
from r1.dry_run import dry_run
from r1.learner import Learner
from r1.loop import Observer, Trainer, train
from r1.preflight import prepare
from r1.rollout.engine import EngineOptions, generate
from r1.rollout.transformers_engine import TransformersEngine
from r1.scoring import RewardPool
from r1.types import Completion, Progress, RolloutGroup, Score

CONFIGS = sorted((ROOT / "launch/configs").glob("*.toml"))
OWN_MODELS = ("quickstart", "countdown_tiny")
"""They run here as they are."""
PUBLISHED = [path for path in CONFIGS if path.stem not in (*OWN_MODELS, "smollm2_gsm8k_cpu")]
NUM_PROBLEMS = 1_200
"""A step of the largest preset takes 1,024."""

every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
every_published = pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)

CHAT_TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(autouse=True)
def one_thread():
    """A second one gains nothing for models this small, and loses a lot where others work on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory):
    """A random model of 256 bytes and an end, with a chat template: it reads every prompt, in any template."""
    folder = tmp_path_factory.mktemp("tiny_llama")
    # The byte-level alphabet of GPT-2: a character for each byte, sorted so that ids do not depend on hashing.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate([*alphabet, "<end>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=8,  # over the GPUs of dapo's engines
        num_key_value_heads=2,
        max_position_embeddings=65_536,  # the longest preset fits
        bos_token_id=None,
        eos_token_id=vocabulary["<end>"],
        pad_token_id=vocabulary["<end>"],
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def problems(tmp_path_factory):
    """Problems as the tasks that read files want them; the fields have the gold in every form that one of them asks for."""
    path = tmp_path_factory.mktemp("problems") / "sums.jsonl"
    rows = []
    for number in range(NUM_PROBLEMS):
        question, gold = f"What is {number} + 7?", str(number + 7)
        rows.append({"question": question, "problem": question, "answer": gold, "level": 4, "solution": f"\\boxed{{{gold}}}"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    # GSM8K's own form.
    marked = path.with_name("marked.jsonl")
    marked.write_text("".join(json.dumps(row | {"answer": f"#### {row['answer']}"}) + "\n" for row in rows))
    benchmark = path.with_name("benchmark.jsonl")
    benchmark.write_text(json.dumps({"problem": "What is 9 + 9?", "answer": "18"}) + "\n")
    return path, marked, benchmark


@pytest.fixture
def in_place(tiny_llama, problems, monkeypatch):
    """path -> overrides that put the tiny model and a file of problems in the place of what cannot be had here."""
    plain, marked, benchmark = problems
    # 20,000 prompts of some hundred bytes take 10 s to encode.
    monkeypatch.setattr(tasks.countdown, "NUM_PROBLEMS", {"train": NUM_PROBLEMS, "heldout": 10})

    def overrides(path):
        config = load_config(path)
        if path.stem in OWN_MODELS:
            return [f"model.path={ROOT / config.model.path}"]
        options = [f"model.path={tiny_llama}", "rollout.max_prompt_tokens=2048"]  # a token a byte
        name = config.task.name.partition(":")[0]
        if name not in ("arithmetic", "countdown"):
            options.append(f"task.path={marked if name == 'gsm8k' else plain}")
        options += [f"task.mix.{other}.path={benchmark}" for other in config.task.mix]
        return options

    return overrides


SMALL = [
    "num_steps=2",
    "rollout.num_workers=1",
    "rollout.tensor_parallel_size=1",
    "rollout.group_size=3",
    "rollout.max_completion_tokens=6",
    "dtype=float32",
    "learner.num_ranks=1",
    "learner.max_tokens_per_microbatch=4096",
    "evaluate.num_completions=2",
]


class Engine:
    """The loop's sampler: an engine in this process."""

    def __init__(self, config):
        rollout = config.rollout
        self.engine = TransformersEngine(
            EngineOptions(
                model_path=config.model.path,
                dtype="float32",
                max_prompt_tokens=rollout.max_prompt_tokens,
                max_completion_tokens=rollout.max_completion_tokens,
                temperature=rollout.temperature,
                max_num_seqs=rollout.max_num_seqs,
            )
        )
        self.batches = []

    def submit(self, batch):
        self.batches.append(batch)

    def collect(self, batch):
        yield from generate(self.engine, batch)

    def load_weights(self, manifest):
        self.engine.receive_weights(manifest, verify=True)
        self.engine.load_weights()

    def cut_off(self, batch): ...
    def pause(self): ...
    def forget(self): ...


class Rewards:
    """The rewards of a run by name, with values that a random model would not earn: they differ within each group."""

    def __init__(self, weights, correctness):
        self.weights, self.correctness = weights, correctness

    def submit(self, group): ...

    def forget(self): ...

    def collect(self, groups):
        return [tuple(self._score(completion) for completion in group.completions) for group in groups]

    def _score(self, completion):
        breakdown = {name: float(completion.sample_id == 1) for name in self.weights}
        return Score(reward=sum(weight * breakdown[name] for name, weight in self.weights.items()), breakdown=breakdown)


class InProcess:
    """The loop's learner: the real one, without checkpoints."""

    def __init__(self, learner):
        self.learner = learner
        self.update, self.publish_weights = learner.update, learner.publish_weights
        self.token_values = learner.tokens.values

    def save(self, progress): ...

    def finish_save(self, limit_s=math.inf): ...


@pytest.mark.slow
@every_config
def test_two_steps_with_a_tiny_model(path, in_place, tmp_path):
    published = load_config(path)
    updates = published.learner.minibatches_per_step
    # Every mini-batch has a prompt, a step at least two.
    config = load_config(path, [*in_place(path), *SMALL, f"rollout.num_prompts={max(2, updates)}"])
    # What makes the recipe is not touched.
    assert config.algorithm == published.algorithm
    assert config.learner.learning_rate == published.learner.learning_rate
    assert (config.learner.minibatches_per_step, config.task.rewards) == (updates, published.task.rewards)
    prepared = prepare(config)
    sampler = Engine(config)
    learner = Learner(config, str(tmp_path / "weights"))
    before = [parameter.detach().clone() for parameter in learner.model.parameters()]
    groups = []
    trainer = Trainer(
        config=config,
        correctness={name: task.correctness for name, task in prepared.tasks.items()},
        prompts=lambda progress, num_prompts: prepared.problems.train.batch(
            progress, num_prompts=num_prompts, group_size=config.rollout.group_size
        ),
        sampler=sampler,
        scorer=Rewards(prepared.task.rewards, prepared.task.correctness),
        learner=InProcess(learner),
    )
    try:
        reports = train(trainer, Observer(on_groups=lambda step, scored: groups.extend(scored)))
    finally:
        learner.close()
    assert [report.policy_version for report in reports] == [1, 2]
    assert len(groups) == 2 * config.rollout.num_prompts
    for report in reports:
        assert report.metrics["skipped_updates"] == 0
        assert report.metrics["mismatch"] < config.sync.max_logprob_diff
        assert all(math.isfinite(value) for value in report.metrics.values()), report.metrics
    # In the second step at the latest something is learnt: with overlong filtering only from what ended by itself.
    assert learner.num_updates > 0
    assert any(not torch.equal(old, new) for old, new in zip(before, learner.model.parameters(), strict=True))
    assert ("kl" in reports[-1].metrics) == (config.algorithm.kl_coef > 0)


@pytest.mark.slow
@every_config
def test_the_dry_run_of_every_configuration(path, in_place, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    config = load_config(path, [*in_place(path), f"run_dir={tmp_path / 'run'}"])
    lines = dry_run(config)
    completions = config.rollout.num_prompts * config.rollout.group_size
    assert any(f"= {completions:,} completions" in line for line in lines)
    assert str(tmp_path / "run") in "\n".join(lines)
    assert not (tmp_path / "run").exists()
    assert not any("refused" in line for line in lines)


@every_published
def test_every_published_figure_names_its_source(path):
    text = path.read_text(encoding="utf-8")
    header, body = text.split("\nname = ", 1)
    for part in ("# Models: ", "# Data: ", "# Result", "# Hardware: "):
        assert part in header, part
    assert "# Paper: " in header or "# Source: " in header
    without = [
        line
        for line in body.splitlines()[1:]
        if " = " in line and "#" not in line and not line.startswith(("clip_high", "rewards", "loss"))
    ]
    assert without == []


ANSWERS = {
    "tags": "</think> <answer>{}</answer>",
    "box": "So it is \\boxed{{{}}}.",
    "line": "So\nAnswer: {}",
}
"""What ends a completion in the form that a template asks for."""


@pytest.mark.slow
@every_published
def test_what_a_right_and_a_wrong_answer_earn(path, in_place):
    # Through the template, the prefill, the real rewards and the gate: the sums that the headers and their sources name.
    expected = {
        "r1_zero": (2.0, 1.0),  # accuracy 1 and format 1, added
        "dr_grpo": (1.0, 0.0),
        "orz_grpo": (1.0, 0.0),
        "simplerl_zoo": (1.0, 0.0),
        "dapo": (2.0, 0.0),  # 1 and -1, moved up by 1
        "countdown_3b_tinyzero": (1.0, 0.1),
        "countdown_3b_nano_aha": (2.0, 1.0),
    }[path.stem]
    config = load_config(path, in_place(path))
    prepared = prepare(config)
    [prompt] = prepared.problems.train.batch(Progress(), num_prompts=1, group_size=2).prompts
    opened = "" if prompt.prefill or prompt.answer_form != "tags" else "<think>"
    answers = (prompt.problem.reference["answer"], "1001")
    texts = [f"{opened}Let me see. {ANSWERS[prompt.answer_form].format(answer)}" for answer in answers]
    same = {"group_id": 0, "token_ids": (1,) * 9, "rollout_logprobs": (-1.0,) * 9, "finish_reason": "stop", "policy_version": 0}
    completions = tuple(Completion(sample_id=i, text=text, **same) for i, text in enumerate(texts))
    task = prepared.task
    limits = {"correctness": task.correctness, "max_completion_tokens": config.rollout.max_completion_tokens}
    with RewardPool(task.rewards, config.scoring, num_children=1, **limits) as pool:
        [scores] = pool.score([RolloutGroup(prompt=prompt, completions=completions)])
    assert [score.reward for score in scores] == pytest.approx(expected)
