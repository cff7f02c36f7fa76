"""Evaluate: `python -m launch.evaluate MODEL|RUN --tasks gsm8k=FILE.jsonl -k 16` or `python -m launch.evaluate --resume OUT`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1.cli.printing import printable_line
from r1.errors import RunError, UserError
from r1.evaluation.settings import FILE, EvaluationSettings, load_settings, new_settings, parse_budgets, parse_tasks
from r1.fetched_run import local_model

OPTION_OF = {
    "rollout.max_prompt_tokens": "--max-prompt-tokens",
    "rollout.max_completion_tokens": "--max-completion-tokens",
    "rollout.tensor_parallel_size": "--tensor-parallel-size",
    "rollout.num_workers": "--num-workers",
    "rollout.engine": "--engine",
    "task.template": "--template",
    "task.name": "--tasks",
    "task.question_field": "--question-field",
    "task.answer_field": "--answer-field",
    "task.path": "--tasks NAME=PATH",
    "task.heldout_path": "--tasks NAME=PATH",
    "model.path": "MODEL",
    "max_prompt_tokens": "--max-prompt-tokens",
    "max_completion_tokens": "--max-completion-tokens",
    "deadline_s": "--deadline-s",
}
"""What a run calls an option -> what it is called here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 evaluated, 1 the evaluation failed, 2 it cannot work as asked for, 130 interrupted."""
    given = vars(_parser().parse_args(arguments))
    out: Path | None = None
    try:
        settings, out, is_resumed = _what_to_do({name: value for name, value in given.items() if value is not None})
        from r1.runtime.evaluation_run import run_evaluation  # imports torch, transformers and ray: only now

        run_evaluation(settings, out, is_resumed=is_resumed)
    except UserError as error:
        print(f"error: {printable_line(_in_own_words(str(error)))}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {printable_line(_in_own_words(str(error)))}{_how_to_go_on(out)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted{_how_to_go_on(out)}", file=sys.stderr)
        return 130
    return 0


def _what_to_do(given: dict[str, Any]) -> tuple[EvaluationSettings, Path, bool]:
    """Return the settings, the folder, and whether the evaluation in it goes on. given: the options that were given."""
    resume = given.pop("resume", None)
    if resume is not None:
        if given:
            other = next(iter(given))
            name = "MODEL" if other == "model" else f"--{other.replace('_', '-')}"
            raise UserError(f"option '--resume' goes on with the settings that are saved in {resume!r}; leave {name} out")
        return load_settings(Path(resume)), Path(resume).absolute(), True
    if "model" not in given or "tasks" not in given:
        raise UserError("no model or no tasks given: python -m launch.evaluate MODEL|RUN --tasks gsm8k=FILE.jsonl -k 4")
    model = given.pop("model")
    if "greedy" in given:
        given.pop("greedy")
        if "temperature" in given:
            raise UserError("options '--greedy' and '--temperature' exclude each other; leave one of them out")
        given["temperature"] = 0.0
    elif given.get("temperature") == 0:
        raise UserError("option '--temperature' must be above 0, got 0; pass --greedy for the likeliest token each time")
    default = f"runs/evaluate-{Path(model).absolute().name}-{time.strftime('%Y%m%d-%H%M%S')}"
    out = Path(given.pop("out", default)).absolute()
    path, run = local_model(model, given.pop("checkpoint", None))
    # By absolute paths, so that it can be gone on with from another folder.
    given["tasks"] = [{**task, "path": _absolute(task["path"])} for task in parse_tasks(given["tasks"])]
    given |= {name: _absolute(given[name]) for name in ("template", "examples") if name in given}
    if "budgets" in given:
        given["budgets"] = parse_budgets(given["budgets"])
    return new_settings(str(_absolute(path)), given, run), out, False


def _absolute(path: str | None) -> str | None:
    """The absolute path of a file or folder; what is none (a name on the hub, a template's name) stays as it is."""
    return str(Path(path).absolute()) if path is not None and Path(path).exists() else path


def _parser() -> argparse.ArgumentParser:
    """All defaults are None: r1.evaluation.settings has them, and a run has its own."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.evaluate", description="Measure a model on held-out problems: pass@1, pass@k, maj@k, lengths."
    )
    parser.add_argument("model", nargs="?", metavar="MODEL|RUN", help="a folder of Hugging Face files, a hub name, or a run")
    add = parser.add_argument
    add("--tasks", metavar="NAME[=PATH],...", help="what to evaluate; PATH: a file, or a hub name like org/name@SPLIT")
    add("-k", "--num-samples", type=int, metavar="K", help="completions of each problem (default: 1)")
    add("--num-problems", type=int, metavar="N", help="the first N problems of each task (default: all)")
    add("--split", choices=("heldout", "train"), help="train: how hard the training problems are (default: heldout)")
    add("--checkpoint", metavar="NAME", help="of a run: latest, best, or step-000020 (default: latest)")
    add("--template", help="how a problem becomes a prompt (default: the run's, else chat where the model has one, else r1_zero)")
    add("--examples", metavar="PATH", help="problems that few_shot shows (default: the task's own training set)")
    add("--question-field", metavar="NAME", help="the row's field with the question (default: the run's, else as published)")
    add("--answer-field", metavar="NAME", help="the same for the gold answer")
    add("--greedy", action="store_true", default=None, help="the likeliest token each time; -k must be 1")
    add("--temperature", type=float, metavar="T", help="(default: the run's, else 1.0)")
    add("--max-completion-tokens", type=int, metavar="N", help="(default: the run's, else 1024)")
    add("--max-prompt-tokens", type=int, metavar="N", help="longer prompts are left out (default: the run's, else 1024)")
    add("--budgets", metavar="N,N,...", help="tokens at which the accuracy curve is taken (default: powers of two)")
    add("--force-answers", action="store_true", default=None, help="make unfinished completions answer at each of the budgets")
    add("--seed", type=int, metavar="N", help="(default: 0)")
    add("--engine", metavar="MODULE:CLASS", help="(default: the run's, else vLLM)")
    add("--dtype", choices=("float32", "bfloat16"), help="(default: the run's, else float32)")
    add("--num-workers", type=int, metavar="N", help="rollout workers, an engine each (default: 1)")
    add("--tensor-parallel-size", type=int, metavar="N", help="GPUs of one engine (default: the run's, else 1)")
    add("--max-num-seqs", type=int, metavar="N", help="completions that an engine decodes at once (default: the run's, else 256)")
    add("--num-threads", type=int, metavar="N", help="of an engine on a CPU (default: the run's, else 2)")
    add("--deadline-s", type=float, metavar="S", help="longest time in which an engine finishes nothing (default: 1800)")
    add("--out", metavar="DIR", help="(default: runs/evaluate-NAME-DATE)")
    add("--resume", metavar="DIR", help="go on with an evaluation that was ended early, with its settings")
    return parser


def _how_to_go_on(out: Path | None) -> str:
    return f"; go on with --resume {out}" if out is not None and (out / FILE).is_file() else ""


def _in_own_words(message: str) -> str:
    """Name options as they are called here.

    >>> _in_own_words("rollout.max_prompt_tokens + rollout.max_completion_tokens must fit; lower max_prompt_tokens")
    '--max-prompt-tokens + --max-completion-tokens must fit; lower --max-prompt-tokens'
    """
    for name, option in OPTION_OF.items():
        message = message.replace(name, option)
    return message


if __name__ == "__main__":
    sys.exit(main())
