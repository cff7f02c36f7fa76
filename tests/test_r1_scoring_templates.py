"""What the rewards see of a sample, through the pool: both kinds of template, the context, the gate."""

from dataclasses import replace

import pytest

from r1.config import ScoringConfig
from r1.errors import ScoringError, UserError
from r1.prompts import get_template, render
from r1.scoring import RewardPool
from r1.scoring_rules import Rewarding
from r1.types import Completion, Prompt, RolloutGroup
from tasks import TASKS
from tasks.base import Problem

pytestmark = pytest.mark.timeout(60)

WEIGHTS = {"math_answer": 1.0, "reasoning_format": 0.1, "tag_count": 0.2}
CONTEXT_FILE = """
import json

def value(completion, reference):
    return float(reference[reference["answer"]])

def is_expected(completion, reference):
    return float(json.dumps(reference, sort_keys=True) == completion)

def fails(completion, reference):
    raise RuntimeError("no")
"""


def group(template, texts, *, reference=None, num_tokens=1, finish_reason="stop"):
    problem = Problem(problem_id="p", question="2+2=", reference=reference or {"answer": "4"})
    made = get_template(template)
    prompt = Prompt(
        group_id=0,
        task="gsm8k",
        problem=problem,
        text=render(made, TASKS["gsm8k"], problem),
        prefill=made.prefill,
        token_ids=(1,),
        answer_form=made.answer_form,
    )
    completions = tuple(
        Completion(
            group_id=0,
            sample_id=i,
            token_ids=(1,) * num_tokens,
            rollout_logprobs=(-1.0,) * num_tokens,
            text=text,
            finish_reason=finish_reason,
            policy_version=0,
        )
        for i, text in enumerate(texts)
    )
    return RolloutGroup(prompt=prompt, completions=completions)


# What the policy writes -> (math_answer, reasoning_format, tag_count) where nothing is prefilled, and behind "<think>".
SAMPLED = [
    (
        "2+2=4</think><answer>4</answer>",
        (1.0, 0.0, 0.75),  # <think> is missing; after </think> stands the answer
        (1.0, 1.0, 1.0),
        "goes on from the prefill",
    ),
    (
        "<think>2+2=4</think><answer>4</answer>",
        (1.0, 1.0, 1.0),
        (1.0, 0.0, 0.75),  # <think><think>: opened twice, so that tag counts for nothing
        "opens the thinking itself",
    ),
    (
        "2+2=4 <answer>4</answer>",
        (1.0, 0.0, 0.5),  # no thinking, and none asked for by math_answer
        (0.0, 0.0, 0.75),  # still thinking: no answer yet
        "never closes the thinking",
    ),
    (
        "2+2=5</think><answer>5</answer>",
        (0.0, 0.0, 0.75),
        (0.0, 1.0, 1.0),
        "wrong, from the prefill on",
    ),
    (
        "2+2=4</think>\\boxed{4}",
        (0.0, 0.0, 0.25),  # the template asks for tags: a box is no answer
        (0.0, 0.0, 0.5),
        "a box where tags are asked for",
    ),
]


@pytest.fixture(scope="module")
def pool():
    with RewardPool(WEIGHTS, ScoringConfig(), num_children=1, correctness="math_answer") as pool:
        yield pool


@pytest.mark.parametrize(("text", "bare", "prefilled", "why"), SAMPLED, ids=[why for *_, why in SAMPLED])
def test_the_same_text_under_both_kinds_of_template(pool, text, bare, prefilled, why):
    scores = [score for scores in pool.score([group("r1_zero", [text]), group("r1_zero_prefill", [text])]) for score in scores]
    assert [tuple(score.breakdown.values()) for score in scores] == [bare, prefilled], why
    for score, (right, in_format, tags) in zip(scores, (bare, prefilled), strict=True):
        assert score.reward == pytest.approx((right if in_format else 0.0) + 0.1 * in_format + 0.2 * tags)


def test_the_gate_can_be_turned_off_and_the_parts_stay_the_same():
    groups = [group("r1_zero", ["<answer>4</answer>", "<think>a</think><answer>4</answer>"])]
    scores = {}
    for gates in (True, False):
        config = ScoringConfig(format_gates_accuracy=gates)
        with RewardPool({"accuracy": 1.0, "reasoning_format": 0.5}, config, correctness="accuracy", num_children=1) as pool:
            [scores[gates]] = pool.score(groups)
    assert [score.reward for score in scores[True]] == [0.0, 1.5]
    assert [score.reward for score in scores[False]] == [1.0, 1.5]
    assert [score.breakdown for score in scores[True]] == [score.breakdown for score in scores[False]]
    with RewardPool({"accuracy": 1.0, "reasoning_format": 0.5}, ScoringConfig(), num_children=1) as pool:
        assert [score.reward for score in pool.score(groups)[0]] == [1.0, 1.5], "no correctness named: nothing is gated"


def test_each_task_of_a_mixture_has_its_own_rewards_and_gate():
    by_task = {
        "sums": Rewarding(weights={"accuracy": 1.0, "reasoning_format": 0.5}, correctness="accuracy"),
        "boxed": Rewarding(weights={"math_answer": 2.0}, correctness="math_answer"),
    }
    texts = ["<answer>4</answer>", "<think>a</think><answer>4</answer>"]
    groups = [of_task(group("r1_zero", texts), task) for task in ("sums", "boxed", "another")]
    with RewardPool({"tag_count": 1.0}, ScoringConfig(), by_task=by_task, num_children=1) as pool:
        sums, boxed, another = pool.score(groups)
    assert [score.breakdown for score in sums] == [
        {"accuracy": 1.0, "reasoning_format": 0.0},
        {"accuracy": 1.0, "reasoning_format": 1.0},
    ]
    assert [score.reward for score in sums] == [0.0, 1.5]  # the gate is closed for the first
    assert [score.breakdown for score in boxed] == [{"math_answer": 1.0}] * 2
    assert [score.reward for score in boxed] == [2.0, 2.0]  # no format, no gate
    assert [set(score.breakdown) for score in another] == [{"tag_count"}] * 2


def of_task(group, task):
    return replace(group, prompt=replace(group.prompt, task=task))


def test_correctness_must_be_one_of_the_rewards():
    with pytest.raises(UserError, match="correctness: 'accuracy' is not one of the rewards; choose from math_answer, tag_count"):
        RewardPool({"math_answer": 1.0, "tag_count": 1.0}, ScoringConfig(), correctness="accuracy")


@pytest.fixture(scope="module")
def context_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rewards") / "context_rewards.py"
    path.write_text(CONTEXT_FILE)
    return str(path)


def test_rewards_find_facts_of_the_sample_in_their_reference(context_file):
    expected = (
        '{"answer": "4", "answer_form": "tags", "finish_reason": "length", "max_tokens": 96, "num_tokens": 3, "question": "2+2="}'
    )
    with RewardPool({f"{context_file}:is_expected": 1.0}, ScoringConfig(), num_children=1, max_completion_tokens=96) as pool:
        [[score]] = pool.score([group("r1_zero", [expected], num_tokens=3, finish_reason="length")])
    assert score.reward == 1.0


def test_a_problem_keeps_its_own_value_under_a_key_of_the_context(context_file):
    with RewardPool({f"{context_file}:value": 1.0}, ScoringConfig(), num_children=1, max_completion_tokens=96) as pool:
        [[own]] = pool.score([group("plain", [""], reference={"answer": "max_tokens", "max_tokens": 7})])
        [[given]] = pool.score([group("plain", [""], reference={"answer": "max_tokens"})])
    assert (own.reward, given.reward) == (7.0, 96.0)


def test_rewards_of_length_see_the_run_s_own_limit():
    # Limit 100, cache 20: 90 tokens are halfway into it. Right at 90 tokens: 0.5 + 0.25 x (1 + cos(0.9 pi)) = 0.51224.
    with RewardPool({"soft_overlong": 1.0, "length_cosine": 1.0}, ScoringConfig(), num_children=1, max_completion_tokens=100) as pool:
        [[score]] = pool.score([group("r1_zero", ["<answer>4</answer>"], num_tokens=90)])
    assert score.breakdown == {"soft_overlong": pytest.approx(-0.5), "length_cosine": pytest.approx(0.51224, abs=1e-5)}


def test_too_many_failures_stop_a_step_with_examples(context_file):
    with RewardPool({f"{context_file}:fails": 1.0}, ScoringConfig(), num_children=1) as pool:
        [scores] = pool.score([group("plain", [""] * 4)])  # 4 are 2 % of 200
        assert [score.reward for score in scores] == [None] * 4
        with pytest.raises(ScoringError, match=r"16 of 16 scores failed, more than the 4 that may: p: .*fails: RuntimeError: no; p: "):
            pool.score([group("plain", [""] * 16)])
