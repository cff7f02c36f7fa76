import pytest
from tiny import MODEL
from transformers import AutoTokenizer

from r1.errors import UserError
from r1.prompt_stream import make_prompt_stream, worked_examples
from r1.prompts import TEMPLATES, SplitCompletion, Template, get_template, render, split_completion
from rewards import REWARDS
from tasks import TASKS
from tasks.arithmetic import addition
from tasks.base import Loaded, Problem, Task

WORDY = Task(name="w", load=lambda *_: Loaded(problems=()), rewards={"accuracy": 1.0}, correctness="accuracy", instructions="Think first.")
PROBLEM = Problem(problem_id="p", question="What is 2+{2}?", reference={"answer": "4"})  # braces must not be read as a format


def test_plain_is_the_bare_question():
    assert render(get_template("plain"), TASKS["arithmetic"], addition(37, 485)) == "37+485="


def test_r1_zero_ends_where_the_assistant_begins_and_prefill_adds_the_tag():
    text = render(get_template("r1_zero"), WORDY, PROBLEM)
    assert text.endswith("User: Think first.\n\nWhat is 2+{2}?\nAssistant: ")
    assert render(get_template("r1_zero_prefill"), WORDY, PROBLEM) == text + "<think>"


def test_prompts_carry_what_their_template_asks_for():
    forms = {name: template.answer_form for name, template in TEMPLATES.items()}
    tags = dict.fromkeys(("r1_zero", "r1_zero_prefill", "chat", "chat_prefill"), "tags")
    others = {"plain": "any", "boxed_chat": "box", "qwen_boxed": "box", "few_shot": "hash", "zero_shot_cot": "line"}
    assert forms == tags | others
    stops = {name: template.stop for name, template in TEMPLATES.items()}
    assert stops["r1_zero"] == stops["r1_zero_prefill"] == ("</answer>",)
    assert stops["boxed_chat"] == stops["chat"] == stops["qwen_boxed"] == ("<|im_end|>",)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    tagged = Template(text="{question}", prefill="<think>", answer_form="tags")
    made = make_prompt_stream([addition(1, 2)], TASKS["arithmetic"], tagged, tokenizer, max_prompt_tokens=20, seed=0)
    assert [(prompt.answer_form, prompt.prefill) for prompt in made.prompts] == [("tags", "<think>")]


def test_chat_goes_through_the_models_template():
    rendered = render(get_template("chat_prefill"), WORDY, PROBLEM, lambda messages: f"[{messages[0]['content']}]")
    assert rendered.startswith("[Think first.\n\nThink the problem through step by step inside <think> </think>. Then give the final answer,")
    assert rendered.endswith("What is 2+{2}?]<think>")
    with pytest.raises(UserError, match="has no chat template"):
        render(get_template("chat"), WORDY, PROBLEM, None)


@pytest.mark.parametrize("name", ["chat", "chat_prefill"])
def test_a_models_own_template_that_opens_the_thinking_has_prefilled_it(name):
    """As those of R1-Distill and QwQ do: without the tag the format of every completion would be wrong."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    tokenizer.chat_template = "{{ messages[0]['content'] }}>{% if add_generation_prompt %}<think>\n{% endif %}"
    [prompt] = make_prompt_stream(
        [addition(1, 2)], TASKS["arithmetic"], Template(text="{question}", is_chat=True, prefill=get_template(name).prefill),
        tokenizer, max_prompt_tokens=20, seed=0,
    ).prompts  # fmt: skip
    assert (prompt.text, prompt.prefill) == ("1+2=><think>\n", "<think>\n")
    assert tokenizer.decode(prompt.token_ids) == prompt.text
    format_reward = REWARDS["reasoning_format"]
    assert format_reward(prompt.prefill + "1+2=3</think><answer>3</answer>", {}) == 1.0


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


def test_a_box_stays_a_box_and_what_is_asked_for_is_the_tasks():
    boxed = render(get_template("qwen_boxed"), TASKS["gsm8k"], PROBLEM)
    assert "put the final number in \\boxed{}.<|im_end|>" in boxed
    assert boxed.endswith("What is 2+{2}?<|im_end|>\n<|im_start|>assistant\n")
    assert "put an expression, for example (1 + 2) * 3 in" in render(get_template("qwen_boxed"), TASKS["countdown"], PROBLEM)


def test_few_shot_shows_examples_that_are_worked_out():
    examples = [Problem(problem_id=f"e{n}", question=f"{n}+{n}?", reference={"answer": str(2 * n)}, solution=f"{n} twice.") for n in (1, 3)]
    text = render(get_template("few_shot:2"), TASKS["gsm8k"], PROBLEM, examples=examples)
    shown = "Question: 1+1?\nAnswer: 1 twice.\n#### 2\n\nQuestion: 3+3?\nAnswer: 3 twice.\n#### 6\n\n"
    assert text == shown + "Question: What is 2+{2}?\nAnswer:"
    [found] = worked_examples(get_template("few_shot:1"), WORDY, [PROBLEM, *examples])
    assert found.problem_id == "e1"
    with pytest.raises(UserError, match="few_shot wants 3 worked examples, the problems of 'w' have 2"):
        worked_examples(get_template("few_shot:3"), WORDY, [PROBLEM, *examples])
    # islice() stops at sys.maxsize, int() at 4300 digits.
    for name in ("plain:3", "few_shot:0", "few_shot:-1", "few_shot:10000", "few_shot:" + "9" * 20, "few_shot:" + "9" * 5000):
        with pytest.raises(UserError, match=f"'{name[:60]}': only few_shot takes an argument, its number of examples, from 1 to 9999"):
            get_template(name)
    assert get_template("few_shot:9999").num_examples == 9999


def test_what_a_few_shot_prompt_shows_is_no_problem_of_its_own():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    problems = [addition(10 + i, 5) for i in range(4)]
    made = make_prompt_stream(problems, TASKS["arithmetic"], get_template("plain"), tokenizer, max_prompt_tokens=10, seed=0, examples=problems[:1])
    assert [prompt.problem for prompt in made.prompts] == problems[1:]


def test_every_template_that_leads_to_an_answer_is_graded_in_its_own_form():
    endings = {"tags": "</think><answer>4</answer>", "box": "So \\boxed{4}.", "hash": "So\n#### 4", "line": "So\nAnswer: 4", "any": "<answer>4</answer>"}
    for name, template in TEMPLATES.items():
        for form, ending in endings.items():
            completion = template.prefill + ("<think>x" if form == "tags" and not template.prefill else "") + ending
            is_right = REWARDS["math_answer"](completion, {"answer": "4", "answer_form": template.answer_form})
            agrees = form == template.answer_form or {form, template.answer_form} <= {"tags", "any"} or (template.answer_form, form) == ("any", "box")
            assert is_right == float(agrees and not (template.prefill and form != "tags")), (name, form)


def test_a_template_of_ones_own_is_a_text_or_a_table(tmp_path):
    (tmp_path / "mine.txt").write_text("Q {question} \\boxed{}\nA")
    assert render(get_template(str(tmp_path / "mine.txt")), WORDY, PROBLEM) == "Q What is 2+{2}? \\boxed{}\nA"
    (tmp_path / "mine.toml").write_text('text = "{question}"\nprefill = "<think>"\nchat = true\nanswer_form = "tags"\nstop = ["Q"]\n')
    assert get_template(str(tmp_path / "mine.toml")) == Template(
        text="{question}", prefill="<think>", is_chat=True, answer_form="tags", stop=("Q",)
    )


def test_a_template_file_has_neither_its_mark_nor_its_last_line_break(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbfUser: {question}\r\nAssistant: \r\n")  # as Windows' editors write it
    assert get_template(str(path)).text == "User: {question}\nAssistant: "
    path.write_bytes(b"{question}\n\n")  # one that is meant
    assert get_template(str(path)).text == "{question}\n"
    (tmp_path / "mine.toml").write_bytes(b'\xef\xbb\xbftext = "{question}\\n"')
    assert get_template(str(tmp_path / "mine.toml")).text == "{question}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('text = "no place"', "the text has no {question}; put it where the problem belongs"),
        ('text = "{question}"\nchat = 1', "'chat' must be bool, got 1"),
        ('text = "{question}"\nprefil = ""', "'prefil' is none of text, prefill, chat, answer_form, stop"),
        ('text = "{question}"\nanswer_form = "braces"', "'answer_form' must be one of any, tags, box, hash, line, got 'braces'"),
        ("text = ", "cannot be read: Invalid value"),
    ],
)
def test_a_template_file_that_cannot_work_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        get_template(str(path))
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    with pytest.raises(UserError, match="No such file or directory; give a .txt or .toml file that is there"):
        get_template(str(tmp_path / "gone.txt"))
