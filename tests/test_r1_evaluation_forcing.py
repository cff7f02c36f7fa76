"""Where a completion is cut, what is put behind it, and that the tokens before stay as they were sampled."""

import pytest
from scored_groups import scored_group
from tiny import MODEL
from transformers import AutoTokenizer

from r1.errors import UserError
from r1.evaluation.forcing import closing_text, forced_chunks, forced_prompts
from r1.evaluation.problems import Chunk, TaskPrompts
from r1.evaluation.settings import engine_config, new_settings
from r1.traces import read_traces, write_traces
from rewards.math_grading.extraction import final_answer
from tasks import TASKS
from tasks.base import Loaded

TOKENIZER = AutoTokenizer.from_pretrained(MODEL)
TEXTS = ["<think>12+7=19</think><answer>19</answer>", "19", "<think>12+7=19</think><answer>19</answer>"]


@pytest.mark.parametrize("form", ["any", "tags", "box", "hash", "line"])
@pytest.mark.parametrize("before", ["so 12+7 is", "<think>12+7 is", "<think>12+7</think> It is"])
def test_what_is_put_behind_makes_an_answer_of_the_next_words(form, before):
    forced = before + closing_text(before, form)
    ends = {"any": "</answer>", "tags": "</answer>", "box": "}.", "hash": "", "line": ""}
    assert final_answer(f"{forced}19{ends[form]}", form) == "19"


@pytest.mark.parametrize(
    ("before", "form"),
    [
        ("<think>12+7</think><answer>1", "tags"),
        ("<answer>1", "any"),
        ("so \\boxed{1", "box"),
        ("so\n#### 1", "hash"),
        ("so\nAnswer: 1", "line"),
        ("so \\boxed{\\frac{1}{2}", "box"),
        ("We will put it in \\boxed{} later. So \\fbox{1", "box"),
        ("so\n**The final answer is: 1", "line"),
        # Cut between the answer and the end-of-sequence token.
        ("<think>12+7</think><answer>19</answer>", "tags"),
        ("so $\\boxed{19}$.", "box"),
        ("so\n#### 19\n", "hash"),
        ("so\nAnswer: 19\n", "line"),
    ],
)
def test_an_answer_that_has_begun_only_goes_on(before, form):
    assert closing_text(before, form) == ""


@pytest.mark.parametrize(
    ("before", "form"),
    [
        ("We will put it in \\boxed{} later. First 12+7", "box"),
        ("\\boxed{41}? no wait, let me redo", "box"),
        ("It ends in #### and a number.\nFirst 12+7", "hash"),
        ("#### 41\n\nNo wait, let me redo", "hash"),
        ("Answer: 41\n\nNo wait, let me redo", "line"),
        ("Is it the Answer: 41", "line"),  # not where the grader looks for it
    ],
)
def test_a_mention_or_an_answer_taken_back_has_not_begun(before, form):
    assert closing_text(before, form) != ""
    forced = before + closing_text(before, form)
    assert final_answer(forced + ("19}." if form == "box" else "19"), form) == "19"


def test_behind_a_closed_block_the_answer_has_not_begun():
    assert closing_text("<answer>41</answer>? no wait, let me redo", "tags") == "\n<answer>"


def test_an_answer_within_the_thinking_has_not_begun():
    assert closing_text("<think>maybe <answer>1</answer>?", "tags") == "</think>\n<answer>"


def group(group_id=3):
    """Three completions: two of 41 tokens, one of them cut off there, and one of two."""
    made = scored_group(TEXTS, [1.0, 0.0, 1.0], group_id=group_id, finish_reasons=["stop", "stop", "length"])
    completions = []
    for completion, text in zip(made.completions, TEXTS, strict=True):
        ids = tuple(TOKENIZER(text).input_ids)
        fields = {"token_ids": ids, "rollout_logprobs": (-0.5,) * len(ids)}
        completions.append(type(completion)(**{**fields_of(completion), **fields}))
    prompt = made.prompt
    prompt = type(prompt)(**{**fields_of(prompt), "token_ids": tuple(TOKENIZER(prompt.text).input_ids)})
    return type(made)(prompt=prompt, completions=tuple(completions), scores=made.scores, advantages=made.advantages)


def fields_of(value):
    return {name: getattr(value, name) for name in type(value).__slots__}


def forced_after(budget, tmp_path):
    made = group()
    write_traces(tmp_path, 1, [made], template="plain", split="heldout")
    return made, forced_prompts({3: made.prompt}, read_traces(tmp_path, 1, "heldout"), budget, TOKENIZER)


def test_unfinished_completions_are_cut_and_closed(tmp_path):
    made, forced = forced_after(12, tmp_path)
    # Of problem 3, samples 0 and 2 of 3.
    assert [prompt.group_id for prompt in forced] == [9, 11]
    assert forced[0].prefill == "<think>12+7=</think>\n<answer>"  # 12 characters, a token each
    assert forced[0].text == "12+7=" + forced[0].prefill
    assert forced[0].token_ids[: 5 + 12] == (*made.prompt.token_ids, *made.completions[0].token_ids[:12])
    assert TOKENIZER.decode(forced[0].token_ids) == forced[0].text
    assert forced[0].problem == made.prompt.problem


def test_at_the_limit_only_those_that_were_cut_off_are_made_to_answer(tmp_path):
    _, forced = forced_after(len(TOKENIZER(TEXTS[0]).input_ids), tmp_path)
    assert [prompt.group_id for prompt in forced] == [11]


def test_a_chunk_of_answers_for_each_chunk_and_budget_that_has_any(tmp_path):
    given = {"tasks": [{"name": "arithmetic"}], "template": "plain", "num_samples": 3, "max_prompt_tokens": 16}
    settings = new_settings(str(MODEL), {**given, "max_completion_tokens": 64, "budgets": [8, 16, 64]}, None)
    fields = {"loaded": Loaded(problems=()), "num_examples": 0, "num_too_long": 0}
    task = TaskPrompts(task=TASKS["arithmetic"], format_gates_accuracy=True, prompts=[], **fields)
    chunks = []
    for number in (1, 2):
        made = group(number)
        write_traces(tmp_path, number, [made], template="plain", split="heldout")
        chunks.append(Chunk(number=number, part="", task=task, prompts=[made.prompt], group_size=3, seed=0))
    forced = forced_chunks(settings, tmp_path, chunks, TOKENIZER)
    assert {budget: [(one.number, len(one.prompts)) for one in of_budget] for budget, of_budget in forced.items()} == {
        8: [(1, 2), (2, 2)], 16: [(3, 2), (4, 2)], 64: [(5, 1), (6, 1)]
    }
    assert len({chunk.seed for of_budget in forced.values() for chunk in of_budget}) == 3
    longest = max(len(prompt.token_ids) for of_budget in forced.values() for chunk in of_budget for prompt in chunk.prompts)
    assert longest <= engine_config(settings, "answers").rollout.max_prompt_tokens


class Wordless:
    def decode(self, *arguments, **options):
        return "x"

    def __call__(self, *arguments, **options):
        raise Exception("no token for '<'")


def test_a_tokenizer_that_cannot_write_it_is_named(tmp_path):
    made = group()
    write_traces(tmp_path, 1, [made], template="plain", split="heldout")
    with pytest.raises(UserError, match="'--force-answers': the model's tokenizer cannot encode .*no token for '<'.*leave"):
        forced_prompts({3: made.prompt}, read_traces(tmp_path, 1, "heldout"), 4, Wordless())
