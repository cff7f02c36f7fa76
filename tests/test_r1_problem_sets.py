import json
from types import SimpleNamespace

import pytest
from tiny import MODEL, tiny_config
from transformers import AutoTokenizer

import tasks.arithmetic
from r1.errors import UserError
from r1.preflight import prepare
from r1.problem_sets import load_problem_sets
from r1.task_options import task_parts
from r1.types import Progress


@pytest.fixture(autouse=True)
def few_additions(monkeypatch):
    """20,000 take a second to draw and to encode."""
    monkeypatch.setattr(tasks.arithmetic, "NUM_PROBLEMS", {"train": 2_000, "heldout": 300})


@pytest.fixture
def sums(tmp_path):
    """A file of 40 sums that the tiny model's tokenizer can read, the ids of its training problems, and its path."""
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(json.dumps({"question": f"{n}+1=", "answer": n + 1, "why": f"{n} and 1"}) for n in range(40)))
    return str(path)


def problem_sets(*overrides, tokenizer=None):
    config = tiny_config(*overrides)
    return load_problem_sets(config, task_parts(config.task), tokenizer or AutoTokenizer.from_pretrained(MODEL))


class BytesTokenizer:
    """The tiny model's tokenizer has no capital letters."""

    chat_template = None

    def __call__(self, texts, add_special_tokens):
        return SimpleNamespace(input_ids=[list(text.encode()) for text in texts])


def questions(stream):
    return {prompt.problem.question for prompt in stream.prompts}


def test_the_quickstarts_problems_are_all_there_and_said():
    sets = problem_sets()
    assert [split.describe() for split in sets.splits] == [
        "arithmetic: 2,000 training problems",
        "arithmetic: 300 held-out problems",
    ]
    assert sets.heldout.describe() == "arithmetic 256 x 1"


def test_runs_of_all_seeds_are_measured_on_the_same_problems(sums):
    mix = ("task.mix.jsonl.weight=1", f"task.mix.jsonl.path={sums}", "evaluate.num_completions=4")
    first, second = (problem_sets(*mix, f"seed={seed}") for seed in (0, 1))
    measured = [[[prompt.text for prompt in batch.prompts] for batch in sets.heldout.batches(0, 0)] for sets in (first, second)]
    assert measured[0] == measured[1]
    assert first.heldout.batches(0, 0)[0].seed != second.heldout.batches(0, 0)[0].seed  # other samples of them
    trained = [sets.train.batch(Progress(), num_prompts=8, group_size=2).prompts for sets in (first, second)]
    assert [prompt.text for prompt in trained[0]] != [prompt.text for prompt in trained[1]]


def test_a_mixture_draws_from_all_its_tasks_and_holds_out_of_each(sums):
    sets = problem_sets("task.mix.jsonl.weight=1", f"task.mix.jsonl.path={sums}", "evaluate.num_completions=4")
    prompts = sets.train.batch(Progress(), num_prompts=8, group_size=2).prompts
    assert [prompt.task for prompt in prompts].count("jsonl") == 4
    heldout = {batch.prompts[0].task: batch for batch in sets.heldout.batches(0, 0)}
    assert set(heldout) == {"arithmetic", "jsonl"}
    assert not {p.problem.problem_id for p in heldout["jsonl"].prompts} & {
        prompt.problem.problem_id for prompt in sets.train.streams[1].prompts
    }


def test_a_task_of_weight_0_is_evaluated_whole_and_not_trained_on(sums):
    sets = problem_sets("task.mix.jsonl.weight=0", f"task.mix.jsonl.path={sums}", "evaluate.num_completions=80")
    assert [prompts.prompts[0].task for prompts in sets.train.streams] == ["arithmetic"]
    _, of_file = sets.heldout.batches(0, 0)
    assert (len(of_file.prompts), of_file.group_size) == (40, 2)


def test_the_rewards_of_a_mixture_are_each_tasks_own(sums):
    config = tiny_config("task.mix.jsonl.weight=1", f"task.mix.jsonl.path={sums}", 'task.rewards={"accuracy"=1.0}')
    rewarding = prepare(config).rewarding_by_task()
    assert rewarding["arithmetic"].weights == {"accuracy": 1.0}
    assert rewarding["jsonl"].weights == {"math_answer": 1.0}  # its own; the template does not ask for a format
    assert rewarding["jsonl"].correctness == "math_answer"
    with pytest.raises(UserError, match="option 'task.mix': 'arithmetic' is task.name already"):
        prepare(tiny_config("task.mix.arithmetic.weight=1"))


def test_no_task_trains_on_what_another_one_holds_out(sums, tmp_path):
    benchmark = tmp_path / "benchmark.jsonl"
    benchmark.write_text('{"problem": "7+1=", "answer": "8"}\n{"problem": "8+1=", "answer": "9"}')
    both = problem_sets(*of_file(sums), "task.mix.aime24.weight=0", f"task.mix.aime24.path={benchmark}")
    alone = problem_sets(*of_file(sums))
    [train], [before] = both.train.streams, alone.train.streams
    assert questions(before) - questions(train) == {"7+1=", "8+1="}
    assert questions(train) < questions(before)
    assert both.splits[0].loaded.num_overlapping == 2


def test_another_spelling_of_what_a_task_holds_out_is_trained_on_by_none(sums, tmp_path):
    path, benchmark = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    # A+1= and a+1= both stay, as their answers differ; the second has an id of its own.
    path.write_text("\n".join(f'{{"question": "{question}", "answer": {n}}}' for n, question in enumerate(["A+1=", "a+1=", "b+1=", "c+1="])))
    benchmark.write_text('{"question": "a+1=", "answer": 1}')
    mixed = ("task.mix.aime24.weight=0", f"task.mix.aime24.path={benchmark}")
    sets = problem_sets(*of_file(path), f"task.heldout_path={sums}", *mixed, tokenizer=BytesTokenizer())
    assert [split.loaded.num_overlapping for split in sets.splits] == [2, 0, 0]
    assert questions(sets.train.streams[0]) == {"b+1=", "c+1="}


def of_file(sums, *more):
    return ("task.name=jsonl", f"task.path={sums}", "rollout.num_prompts=2", *more)


def test_what_is_always_or_never_solved_is_left_out_of_training_alone(sums, tmp_path):
    everything = problem_sets(*of_file(sums))
    [train] = everything.train.streams
    ids = [prompt.problem.problem_id for prompt in train.prompts]
    always, never, sometimes = ids[0], ids[1], ids[2]
    rates = tmp_path / "pass_rates.json"
    rates.write_text(json.dumps({"jsonl": {always: [8, 8], never: [0, 8], sometimes: [1, 8], ids[3]: [0, 0]}}))
    chosen = problem_sets(*of_file(sums, f"task.difficulty=learnable:{rates}"))
    left = {prompt.problem.problem_id for prompt in chosen.train.streams[0].prompts}
    assert left == set(ids) - {always, never}
    assert "(2 always or never solved)" in chosen.splits[0].describe()
    assert chosen.train.streams[0].pass_rates is None
    assert chosen.splits[1].num_unlearnable == 0
    easy_first = problem_sets(*of_file(sums, f"task.difficulty=easy_first:{rates}"))
    last = easy_first.train.streams[0].drawn(len(left) - 1)
    assert last.problem.problem_id == sometimes  # 1 of 8; all others count as unmeasured, 0.5


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("hard:{}", "{}", "must be learnable:FILE or easy_first:FILE"),
        ("learnable", "{}", "must be learnable:FILE or easy_first:FILE"),
        ("learnable:{}", "{}", "has measured none of the 39 training problems of 'jsonl'; measure them with"),
        ("learnable:{}", "[1]", "is no pass_rates.json"),
        ("learnable:{}", '{"jsonl": {"a": 3}}', "is no pass_rates.json"),
        ("learnable:gone.json", "", "'gone.json': No such file or directory; give a pass_rates.json"),
    ],
)
def test_a_difficulty_that_cannot_be_read_is_refused(sums, tmp_path, option, content, message):
    rates = tmp_path / "rates.json"
    rates.write_text(content)
    with pytest.raises(UserError) as caught:
        problem_sets(*of_file(sums, f"task.difficulty={option.format(rates)}"))
    assert str(caught.value).startswith("option 'task.difficulty': ")
    assert message in str(caught.value)


def test_a_run_starts_only_if_enough_problems_are_left(sums, tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join(['{"question": "1+1=", "answer": 2}', '{"question": "2+2="}', "{", '{"question": "1+1=", "answer": 2}']))
    with pytest.raises(UserError) as caught:
        problem_sets("task.name=jsonl", f"task.path={path}", f"task.heldout_path={sums}", "rollout.num_prompts=2")
    # 1+1= is held out as well; nothing is left.
    assert str(caught.value).startswith(f"option 'task.path': {str(path)!r} holds no problem for the train split; the first of 2 bad rows")
    assert str(caught.value).endswith("what it has is held out as well (1); give other problems")
    path.write_text('{"question": "50+1=", "answer": 51}\n{"question": "2+2="}')
    with pytest.raises(UserError) as caught:
        problem_sets("task.name=jsonl", f"task.path={path}", f"task.heldout_path={sums}", "rollout.num_prompts=2")
    assert str(caught.value) == (
        "option 'task.path': 1 training problems are left, a step takes rollout.num_prompts=2: "
        "jsonl: 1 training problems of 2 rows (1 bad); give more, or lower it"
    )
    sets = problem_sets("task.name=jsonl", f"task.path={path}", f"task.heldout_path={sums}", "rollout.num_prompts=1")
    assert sets.describe(5)[1].startswith(f"bad row: {path}, line 2: no answer in")
    assert sets.describe(0)[1] == (
        f"and 1 more bad rows; all of them: r1 tasks show jsonl --bad --path {path} --heldout-path {sums} --split train"
    )


def test_a_task_of_a_mixture_needs_as_many_problems_as_a_step_takes_of_it(sums, tmp_path):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(f'{{"question": "{n}+51=", "answer": {n + 51}}}' for n in (50, 60, 70)))
    options = ["task.name=jsonl", f"task.path={few}", f"task.heldout_path={sums}", "rollout.num_prompts=8"]
    with pytest.raises(UserError) as caught:
        problem_sets(*options, "task.mix.arithmetic.weight=1")
    # Half of a step's 8 prompts are 4.
    assert str(caught.value).startswith(
        "option 'task.path': 3 training problems are left, a step takes rollout.num_prompts=8, 50.0% of them its: jsonl: 3 "
    )
    assert str(caught.value).endswith("; give more, or lower its weight")
    sets = problem_sets(*options, "task.mix.arithmetic.weight=3")
    assert [(task.name, task.share) for task in sets.train.tasks] == [("jsonl", 0.25), ("arithmetic", 0.75)]


class Characters:
    """A tokenizer of one token a character, capitals too, which the tiny model's has not."""

    chat_template = None

    def __call__(self, texts, add_special_tokens):
        return type("Encoded", (), {"input_ids": [[ord(character) for character in text] for text in texts]})


def test_a_file_too_small_to_hold_out_of_is_told_what_else_there_is(sums, tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join(f'{{"question": "{n}+1=", "answer": {n + 1}}}' for n in range(10)))
    remedies = "give a larger file, held-out problems as {}.heldout_path, or evaluate.num_completions=0"
    with pytest.raises(UserError) as caught:
        problem_sets(*of_file(path))
    assert str(caught.value) == (
        f"option 'task.path': {str(path)!r} holds no problem for the heldout split; one in 20 is held out, by hash, none of these 10; "
        + remedies.format("task")
    )
    with pytest.raises(UserError) as caught:
        problem_sets("task.mix.jsonl.weight=1", f"task.mix.jsonl.path={path}")
    assert str(caught.value).startswith("option 'task.mix.jsonl.path': ")
    assert str(caught.value).endswith(remedies.format("task.mix.jsonl"))
    # Both remedies do.
    assert len(questions(problem_sets(*of_file(path), "evaluate.num_completions=0").train.streams[0])) == 10
    few = tmp_path / "heldout.jsonl"
    few.write_text('{"question": "50+1=", "answer": 51}')
    assert len(questions(problem_sets(*of_file(path), f"task.heldout_path={few}").train.streams[0])) == 10


def test_few_shot_examples_are_shown_and_not_trained_on(tmp_path):
    path = tmp_path / "math.jsonl"
    rows = [{"problem": f"{n}+1=", "answer": str(n + 1), "solution": f"{n} and 1"} for n in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)))
    config = tiny_config("task.name=math", f"task.path={path}", "task.template=few_shot:2", "rollout.max_prompt_tokens=300")
    sets = load_problem_sets(config, task_parts(config.task), Characters())
    train, heldout = sets.splits
    # The first two training problems of the file, in both splits' prompts and in every order.
    shown = train.stream.prompts[0].text.split("Question: ")[1:3]
    assert all(prompt.text.split("Question: ")[1:3] == shown for prompt in (*train.stream.prompts, *heldout.stream.prompts))
    assert train.num_examples == 2
    assert "(2 shown as examples)" in train.describe()
    assert len(train.stream.prompts) + len(heldout.stream.prompts) == 58
    assert not {text.split("\n")[0] for text in shown} & questions(train.stream)
    assert train.stream.prompts[0].stop == ("\nQuestion:",)
