import pytest
from tiny import MODEL
from transformers import AutoTokenizer

from r1.errors import UserError
from r1.prompt_stream import make_prompt_stream
from r1.prompts import TEMPLATES, SplitCompletion, Template, get_template, render, split_completion
from r1.types import Progress
from tasks import TASKS
from tasks.arithmetic import addition
from tasks.base import Problem, Task

WORDY = Task(name="w", load=lambda *_: [], rewards={"accuracy": 1.0}, correctness="accuracy", instructions="Think first.")
PROBLEM = Problem(problem_id="p", question="What is 2+{2}?", reference={"answer": "4"})  # braces must not be read as a format


def test_plain_is_the_bare_question():
    assert render(get_template("plain"), TASKS["arithmetic"], addition(37, 485)) == "37+485="


def test_r1_zero_ends_where_the_assistant_begins_and_prefill_adds_the_tag():
    text = render(get_template("r1_zero"), WORDY, PROBLEM)
    assert text.endswith("User: Think first.\n\nWhat is 2+{2}?\nAssistant: ")
    assert render(get_template("r1_zero_prefill"), WORDY, PROBLEM) == text + "<think>"


def test_prompts_carry_what_their_template_asks_for():
    forms = {name: template.answer_form for name, template in TEMPLATES.items()}
    assert forms == {"plain": "any", "r1_zero": "tags", "r1_zero_prefill": "tags", "chat": "any", "chat_prefill": "any"}
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    tagged = Template(text="{question}", prefill="<think>", answer_form="tags")
    made = make_prompt_stream([addition(1, 2)], TASKS["arithmetic"], tagged, tokenizer, max_prompt_tokens=20, seed=0)
    assert [(prompt.answer_form, prompt.prefill) for prompt in made.prompts] == [("tags", "<think>")]


def test_chat_goes_through_the_models_template():
    rendered = render(get_template("chat_prefill"), WORDY, PROBLEM, lambda messages: f"[{messages[0]['content']}]")
    assert rendered == "[Think first.\n\nWhat is 2+{2}?]<think>"
    with pytest.raises(UserError, match="has no chat template"):
        render(get_template("chat"), WORDY, PROBLEM, None)


def test_an_unknown_template_lists_the_known_ones():
    with pytest.raises(UserError, match="plain, r1_zero"):
        get_template("r1-zero")


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>a</think><answer>4</answer>", "a", "4"),
        ("a</think>\n<answer>4</answer>", "a", "4"),  # the prefill was cut off
        ("<think>never closed", "never closed", ""),
        ("<think>a</think>4", "a", ""),
        ("<think>a</think><answer>4", "a", "4"),
        ("just 4", "", ""),
        ("<think><answer>5</answer></think><answer>4</answer>", "<answer>5</answer>", "4"),
    ],
)
def test_splitting_for_display(text, thinking, answer):
    assert split_completion(text) == SplitCompletion(thinking=thinking, answer=answer)


@pytest.fixture(scope="module")
def stream():
    problems = [addition(10 + i, 5) for i in range(10)] + [addition(123456789, 123456789)]
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    return make_prompt_stream(problems, TASKS["arithmetic"], get_template("plain"), tokenizer, max_prompt_tokens=10, seed=0)


def ids(batch):
    return [prompt.problem.problem_id for prompt in batch.prompts]


def test_too_long_prompts_are_skipped_and_counted(stream):
    assert len(stream.prompts) == 10
    assert stream.num_skipped == 1


def test_it_is_an_error_if_all_are_too_long(stream):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    with pytest.raises(UserError, match=r"all 1 prompts are longer than 3 tokens, the shortest has 4; raise it to at least 4"):
        make_prompt_stream([addition(1, 2)], TASKS["arithmetic"], get_template("plain"), tokenizer, max_prompt_tokens=3, seed=0)


def test_each_epoch_visits_every_problem_once_in_another_order(stream):
    steps = [ids(stream.batch(Progress(num_prompts_drawn=drawn), num_prompts=4, group_size=2)) for drawn in range(0, 20, 4)]
    walk = [problem_id for step in steps for problem_id in step]
    assert sorted(walk[:10]) == sorted(walk[10:]) == sorted(p.problem.problem_id for p in stream.prompts)
    assert walk[:10] != walk[10:]


def test_prompts_depend_on_how_many_were_drawn_before_and_on_nothing_else(stream):
    later = stream.batch(Progress(step=3, policy_version=5, num_prompts_drawn=8), num_prompts=4, group_size=2)
    assert ids(later) == ids(stream.batch(Progress(num_prompts_drawn=8), num_prompts=4, group_size=2))
    # A run that goes on with more prompts a step neither repeats nor leaves out any.
    assert ids(stream.batch(Progress(num_prompts_drawn=4), num_prompts=8, group_size=2))[4:] == ids(later)
    assert (later.step, later.policy_version) == (4, 5)
    assert [prompt.group_id for prompt in later.prompts] == [0, 1, 2, 3]


def test_heldout_samples_have_seeds_of_their_own(stream):
    heldout = stream.heldout_batch(1, 0, 4)
    assert heldout.seed != stream.batch(Progress(), num_prompts=4, group_size=1).seed
    assert (len(heldout.prompts), heldout.group_size) == (4, 1)
