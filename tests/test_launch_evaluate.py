"""Bad input to `python -m launch.evaluate`: one clear line, exit code 2, nothing started, nothing written."""

import json

import pytest
from tiny import MODEL, ROOT, tiny_config

import launch.evaluate
import tasks.data_set
from r1.checkpoint import begin_checkpoint, finish_checkpoint
from r1.errors import UserError
from r1.evaluation.majority import never_the_same
from r1.evaluation.metrics import task_metrics
from r1.evaluation.model import find_model
from r1.evaluation.problems import chunks_of, load_prompts
from r1.evaluation.report import results_of
from r1.evaluation.samples import EvaluatedProblem, Sample
from r1.evaluation.settings import engine_config, load_settings, new_settings, save_settings
from r1.types import Progress


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capsys):
    """Run main() with arguments from the repository's folder; returns (exit code, stderr)."""
    import r1.runtime.evaluation_sampling

    def refuse_to_start(*arguments, **options):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(r1.runtime.evaluation_sampling, "connected", refuse_to_start)
    monkeypatch.chdir(ROOT)
    runs_before = set((ROOT / "runs").glob("*"))

    def call(*arguments):
        code = launch.evaluate.main(list(map(str, arguments)))
        assert set((ROOT / "runs").glob("*")) == runs_before
        return code, capsys.readouterr().err

    return call


TINY = ["launch/models/tiny_base", "--tasks", "arithmetic", "--template", "plain"]
FITS = ["--max-prompt-tokens", "16", "--max-completion-tokens", "64"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["no model or no tasks given"]),
        (["launch/models/tiny_base"], ["no model or no tasks given"]),
        (["nowhere/at/all", "--tasks", "arithmetic"], ["'MODEL'", "is not a folder"]),
        ([*TINY, *FITS, "--tasks", "arithmetics"], ["'--tasks'", "did you mean 'arithmetic'?"]),
        ([*TINY, *FITS, "--tasks", "arithmetic=x.jsonl"], ["generates its problems"]),
        ([*TINY, *FITS, "--tasks", "gsm8k=none.jsonl"], ["no file 'none.jsonl'"]),
        ([*TINY, *FITS, "--tasks", "arithmetic,arithmetic"], ["'--tasks'", "'arithmetic' is named twice"]),
        ([*TINY, *FITS, "--tasks", "gsm8k="], ["'--tasks'", "must look like"]),
        ([*TINY, *FITS, "-k", "0"], ["'--num-samples'", "greater than or equal to 1", "got 0"]),
        ([*TINY, *FITS, "--greedy", "-k", "4"], ["'--greedy'", "-k must be 1, got 4", "pass -k 1"]),
        ([*TINY, *FITS, "--greedy", "--temperature", "0.5"], ["'--greedy' and '--temperature' exclude each other"]),
        ([*TINY, *FITS, "--temperature", "0"], ["'--temperature'", "above 0", "--greedy"]),
        ([*TINY, *FITS, "--temperature", "nan"], ["'--temperature'", "finite"]),
        ([*TINY, *FITS, "--budgets", "32,x"], ["'--budgets'", "numbers of tokens", "'32,x'"]),
        ([*TINY, *FITS, "--budgets", "32,65"], ["'--budgets'", "65 is more than the 64 tokens"]),
        ([*TINY, *FITS, "--template", "zzz"], ["'--template'", "no template 'zzz'"]),
        ([*TINY, *FITS, "--template", "r1_zero"], ["'--template'", "cannot encode the prompts"]),
        ([*TINY, *FITS, "--checkpoint", "best"], ["'--checkpoint'", "is no run folder"]),
        (TINY, ["--max-prompt-tokens + --max-completion-tokens must fit", "lower --max-prompt-tokens below 256"]),
        ([*TINY, "--max-prompt-tokens", "3", "--max-completion-tokens", "8"], ["'--max-prompt-tokens'", "longer than 3 tokens"]),
        ([*TINY, *FITS, "--out", "launch"], ["'--out'", "exists already", "--resume"]),
        ([*TINY, *FITS, "--examples", "x.jsonl"], ["'--examples'", "only few_shot", "'x.jsonl' would be ignored", "few_shot:8"]),
        (["launch/models/tiny_base", "--tasks", "gsm8k", "--examples", "x.jsonl"], ["'--examples'", "only few_shot"]),
        ([*TINY, *FITS, "--engine", "foo:Bar"], ["'--engine'", "no module 'foo'", "package.module:Class"]),
        (["--resume", "launch"], ["'--resume'", "is not the folder of an evaluation"]),
        (["--resume", "launch", "-k", "2"], ["'--resume'", "leave --num-samples out"]),
        (["launch/models/tiny_base", "--resume", "launch"], ["'--resume'", "leave MODEL out"]),
    ],
)
def test_bad_input(evaluate, arguments, parts):
    code, error = evaluate(*arguments)
    assert code == 2, error
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) == 1, error
    assert all(part in error for part in parts), error


def test_examples_that_are_not_there_are_named_as_they_were_given(evaluate, tmp_path):
    problems = write_problems(tmp_path / "p.jsonl", [1])
    code, error = evaluate(*TINY[:1], *FITS, "--tasks", f"gsm8k={problems}", "--template", "few_shot:1", "--examples", "none.jsonl")
    assert code == 2
    assert error.startswith("error: option '--examples': no file 'none.jsonl'; give a ")
    code, error = evaluate(*TINY[:1], *FITS, "--tasks", "arithmetic", "--template", "few_shot:1", "--examples", problems)
    assert error == f"error: option '--examples': the task 'arithmetic' generates its problems; remove {problems!r}\n"


def test_a_wrong_engine_leaves_no_folder_behind(evaluate, tmp_path):
    code, _ = evaluate(*TINY, *FITS, "--engine", "foo:Bar", "--out", tmp_path / "out")
    assert code == 2
    assert not (tmp_path / "out").exists()


def settings_of(**given):
    return new_settings(str(MODEL), {"tasks": [{"name": "arithmetic"}], "template": "plain", "max_prompt_tokens": 16, **given}, None)


def test_settings_are_kept_as_they_are(tmp_path):
    settings = settings_of(num_samples=4, budgets=[16, 64], temperature=0.7)
    save_settings(settings, tmp_path)
    assert load_settings(tmp_path) == settings
    (tmp_path / "evaluation.json").write_text(json.dumps({"model": "x"}))
    with pytest.raises(UserError, match=r"option '--resume': .* is damaged or of another r1 \(tasks: "):
        load_settings(tmp_path)
    (tmp_path / "evaluation.json").write_bytes(b'{"model": "\xff"}')
    with pytest.raises(UserError, match=r"option '--resume': .* \(not UTF-8: invalid start byte at byte 11\); start a new"):
        load_settings(tmp_path)


def test_an_engine_may_be_greedy_though_no_run_may():
    config = engine_config(settings_of(temperature=0.0, max_num_seqs=7))
    assert (config.rollout.temperature, config.rollout.max_num_seqs) == (0.0, 7)


def test_the_curve_is_taken_at_powers_of_two_unless_told_otherwise():
    assert settings_of(max_completion_tokens=100).token_budgets == [16, 32, 64, 100]
    assert settings_of(max_completion_tokens=64).token_budgets == [16, 32, 64]
    assert settings_of(max_completion_tokens=100, budgets=[50]).token_budgets == [50]


def make_run(folder, *options, **accuracy_of_step):
    """A run folder with a checkpoint at each step, as far as an evaluation looks at it."""
    config = tiny_config("rollout.temperature=0.6", "dtype=bfloat16", *options)
    folder.mkdir()
    (folder / "config.json").write_text(config.model_dump_json())
    lines = []
    for name, accuracy in accuracy_of_step.items():
        step = int(name.removeprefix("step"))
        partial = begin_checkpoint(folder, step)
        (partial / "learner").mkdir()
        (partial / "learner/.metadata").touch()
        finish_checkpoint(partial, Progress(step=step), config)
        lines.append(json.dumps({"kind": "heldout", "step": step, "metrics": {"accuracy": accuracy}}))
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def test_of_a_run_one_checkpoint_is_evaluated_with_the_runs_own_options(tmp_path):
    run = make_run(tmp_path / "run", step5=0.5, step10=0.9, step15=0.9, step20=0.7)
    for wanted, step in ((None, 20), ("latest", 20), ("best", 10), ("step-000005", 5)):
        path, config = find_model(str(run), wanted)
        assert path == str(run / f"checkpoints/step-{step:06d}/hf")
    settings = new_settings(path, {"tasks": [{"name": "arithmetic"}], "max_prompt_tokens": 8}, config)
    assert (settings.temperature, settings.dtype, settings.template) == (0.6, "bfloat16", "plain")
    assert (settings.max_prompt_tokens, settings.max_completion_tokens) == (8, 96)
    with pytest.raises(UserError, match="no 'step-000006' in .*; choose one of latest, best, step-000005, step-000010"):
        find_model(str(run), "step-000006")
    with pytest.raises(UserError, match="is a run without a complete checkpoint"):
        find_model(str(make_run(tmp_path / "empty")))


def test_the_runs_own_task_is_judged_by_the_runs_rewards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def right(completion, reference):\n    return 1.0\n")
    run = make_run(tmp_path / "run", 'task.rewards={"mine.py:right"=1.0,"tag_count"=0.2}', step5=0.5)
    path, config = find_model(str(run))
    two = {"tasks": [{"name": "arithmetic"}, {"name": "gsm8k"}], "template": "plain"}
    own, other = new_settings(path, two, config).tasks
    # By its absolute path: --resume may be called elsewhere.
    assert own.rewards == {f"{tmp_path}/mine.py:right": 1.0, "tag_count": 0.2}
    assert other.rewards is None
    [loaded] = load(tasks=[own.model_dump()])
    assert loaded.task.correctness == f"{tmp_path}/mine.py:right"
    (tmp_path / "mine.py").unlink()
    with pytest.raises(UserError, match=r"'RUN': its task.rewards has 'mine.py:right', and there is no file 'mine.py' here; evaluate in"):
        new_settings(path, two, config)


def write_problems(path, numbers):
    rows = [{"question": f"{n}+1=", "answer": f"#### {n + 1}"} for n in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def load(**given):
    from transformers import AutoTokenizer

    return load_prompts(settings_of(**given), AutoTokenizer.from_pretrained(MODEL))


def test_all_of_a_file_is_evaluated_in_the_same_order_whatever_the_seed(tmp_path):
    gsm8k = [{"name": "gsm8k", "path": write_problems(tmp_path / "p.jsonl", range(60))}]
    [first], [again] = load(tasks=gsm8k), load(tasks=gsm8k, seed=1)
    assert first == again
    assert [prompt.problem.reference["answer"] for prompt in first.prompts] == [str(n + 1) for n in range(60)]
    assert [prompt.group_id for prompt in first.prompts] == list(range(60))
    [some] = load(tasks=gsm8k, num_problems=7)
    assert some.prompts == first.prompts[:7]
    [train] = load(tasks=gsm8k, split="train")
    assert train.prompts == first.prompts  # nothing is held out of it


def test_what_is_too_long_is_counted_and_the_places_have_no_gaps(tmp_path):
    gsm8k = [{"name": "gsm8k", "path": write_problems(tmp_path / "p.jsonl", [1, 22, 333, 4444])}]
    [some] = load(tasks=gsm8k, max_prompt_tokens=5)  # "22+1=" has 5
    assert len(some.prompts) == 2
    assert some.left_out["too_long"] == 2
    assert [prompt.group_id for prompt in some.prompts] == [0, 1]


def test_the_format_is_measured_where_the_task_does_not_reward_it():
    [arithmetic] = load()  # template plain, which names no tags
    assert arithmetic.task.rewards == {"accuracy": 1.0, "reasoning_format": 0.0}
    assert not arithmetic.format_gates_accuracy


def test_chunks_are_numbered_over_all_tasks(tmp_path):
    tasks = [{"name": "gsm8k", "path": write_problems(tmp_path / "p.jsonl", range(10))}, {"name": "arithmetic"}]
    # 2 x 4 x 2 = 16 completions a chunk, 3 each: 5 problems
    given = {"tasks": tasks, "num_problems": 7, "num_samples": 3, "max_num_seqs": 4, "num_workers": 2}
    chunks = list(chunks_of(settings_of(**given), load(**given)))
    assert [(chunk.number, chunk.task.task.name, len(chunk.prompts)) for chunk in chunks] == [
        (1, "gsm8k", 5), (2, "gsm8k", 2), (3, "arithmetic", 5), (4, "arithmetic", 2)
    ]
    assert [prompt.group_id for prompt in chunks[3].prompts] == [5, 6]
    # A problem with more samples than a chunk would have is a chunk of its own.
    given["num_samples"] = 20
    assert len(list(chunks_of(settings_of(**given), load(**given)))) == 14


@pytest.fixture
def hub(monkeypatch):
    """A hub whose data sets all have one question in each split, "1+1=" for training."""

    def read_hub(name, configs, split, *, is_large):
        number = {"train": 1, "test": 2}[split]
        yield split, {"question": f"{number}+1=", "answer": f"it is #### {number + 1}"}

    monkeypatch.setattr(tasks.data_set, "read_hub", read_hub)


@pytest.mark.parametrize(
    ("path", "split", "question"),
    [
        (None, "train", "1+1="),
        ("openai/gsm8k", "train", "1+1="),
        ("openai/gsm8k", "heldout", "2+1="),
        ("org/other", "train", "1+1="),
        ("openai/gsm8k@test", "train", "2+1="),
        ("openai/gsm8k@train", "heldout", "1+1="),
    ],
)
def test_of_a_hub_name_the_split_is_read_that_was_asked_for(hub, path, split, question):
    [loaded] = load(tasks=[{"name": "gsm8k", "path": path}], split=split)
    assert [prompt.problem.question for prompt in loaded.prompts] == [question]


def test_examples_of_a_hub_name_are_training_problems(hub, tmp_path):
    gsm8k = [{"name": "gsm8k", "path": write_problems(tmp_path / "p.jsonl", [7])}]
    settings = settings_of(tasks=gsm8k, template="few_shot:1", examples="openai/gsm8k", max_prompt_tokens=99)
    [loaded] = load_prompts(settings, Characters())
    assert loaded.prompts[0].text.startswith("Question: 1+1=\n")


class Characters:
    """A tokenizer with a token for each character."""

    chat_template = None

    def __call__(self, texts, add_special_tokens):
        return type("Encoded", (), {"input_ids": [[ord(character) for character in text] for text in texts]})


def test_the_first_problems_are_those_behind_the_examples_and_what_is_left_out_is_counted(tmp_path):
    path = tmp_path / "test.jsonl"
    rows = [{"question": f"{n}+1=", "answer": f"{n} and one #### {n + 1}"} for n in (0, 1, 2, 2, 3, 4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"question": "5+1=", "answer": "6"}]))
    given = {"template": "few_shot:2", "examples": str(path), "num_problems": 2, "max_prompt_tokens": 200}
    settings = settings_of(tasks=[{"name": "gsm8k", "path": str(path)}], **given)
    [loaded] = load_prompts(settings, Characters())
    assert [prompt.problem.question for prompt in loaded.prompts] == ["2+1=", "3+1="]
    left_out = {"bad": 1, "repeated": 1, "held_out_as_well": 0, "shown_as_examples": 2, "too_long": 0}
    wrong = Sample(is_right=False, is_judged=True, answer=None, num_tokens=1, is_truncated=False, format=None, error=None)
    metrics = task_metrics([EvaluatedProblem(problem_id="0", samples=(wrong,))], never_the_same)
    of_task = results_of(settings, {"gsm8k": metrics}, [loaded])["tasks"]["gsm8k"]
    assert (of_task["correctness"], of_task["left_out"]) == ("math_answer", left_out)


def test_few_shot_examples_come_from_a_file_of_their_own_and_are_not_evaluated(tmp_path):
    evaluated = write_problems(tmp_path / "test.jsonl", range(5))
    shown = tmp_path / "train.jsonl"
    rows = [{"question": f"{n}+1=", "answer": f"{n} and one #### {n + 1}"} for n in range(3, 60)]
    shown.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = settings_of(tasks=[{"name": "gsm8k", "path": evaluated}], template="few_shot:1", examples=str(shown), max_prompt_tokens=99)
    [loaded] = load_prompts(settings, Characters())
    assert [prompt.problem.question for prompt in loaded.prompts] == ["0+1=", "1+1=", "2+1=", "4+1="]
    assert loaded.prompts[0].text == "Question: 3+1=\nAnswer: 3 and one\n#### 4\n\nQuestion: 0+1=\nAnswer:"
    assert loaded.task.rewards == {"math_answer": 1.0, "reasoning_format": 0.0}
    assert not loaded.format_gates_accuracy


def test_few_shot_of_a_task_without_training_problems_asks_for_examples(tmp_path):
    evaluated = tmp_path / "amc.jsonl"
    evaluated.write_text('{"question": "1+1=", "answer": "2"}\n')
    settings = settings_of(tasks=[{"name": "amc23", "path": str(evaluated)}], template="few_shot:1")
    with pytest.raises(UserError, match=r"'amc23' has none; choose another template; or give --examples PATH: few_shot:1 shows training"):
        load_prompts(settings, None)
