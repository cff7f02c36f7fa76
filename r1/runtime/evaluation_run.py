"""One evaluation from its settings to its table: rollout workers without a learner, one chunk of problems after another.

    problems -> chunk -> rollout workers -> reward pool -> OUT/traces/heldout-00000n.parquet, and the next chunk
    trace files -> metrics -> results.json

A chunk whose file is there is never sampled again, and nothing but the files is counted: an evaluation that was killed and
goes on ends with the numbers of one that was not.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from r1.cli.printing import new_console
from r1.errors import UserError
from r1.evaluation.forcing import forced_chunks
from r1.evaluation.majority import MATH, ONE_RIGHT_ANSWER, MathAnswers, never_the_same
from r1.evaluation.metrics import pass_rates, task_metrics
from r1.evaluation.problems import Chunk, TaskPrompts, chunks_of, load_prompts
from r1.evaluation.progress import Say
from r1.evaluation.report import (
    CURVE,
    PASS_RATES,
    RESULTS,
    budget_table,
    curves_of,
    draw_budget_curves,
    metrics_table,
    results_of,
    write_json,
)
from r1.evaluation.samples import Sample, read_problems
from r1.evaluation.settings import EvaluationSettings, engine_config, save_settings
from r1.preflight import check_engine, load_tokenizer
from r1.runtime.evaluation_sampling import sample_missing
from tasks.data_set import first_rows

MAX_BAD_ROWS_SHOWN = 5
FORCED = "forced"
"""The folder in OUT whose traces are the forced answers."""


def run_evaluation(settings: EvaluationSettings, out: Path, *, is_resumed: bool = False, console: Console | None = None) -> None:
    """Evaluate as the settings say, write everything into `out`, and print the table.

    Raises `UserError` before anything is started or written when the settings cannot work, and `RunError` when the
    evaluation cannot go on; what it has finished by then stays, for `is_resumed`.
    """
    say = Say(console or new_console())
    check_engine(settings.engine)
    tokenizer = load_tokenizer(engine_config(settings))
    if settings.force_answers:
        load_tokenizer(engine_config(settings, "answers"))  # whether the context has room for them
    template = settings.template or ("chat" if tokenizer.chat_template else "r1_zero")
    settings = settings.model_copy(update={"template": template})
    tasks = load_prompts(settings, tokenizer)
    chunks = list(chunks_of(settings, tasks))
    if not is_resumed:
        _make_folder(out)
        save_settings(settings, out)
    for task in tasks:
        left_out = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in task.left_out.items() if count)
        say.line(
            f"task {task.task.name}: {len(task.prompts)} problems (left out: {left_out or 'none'}), judged by "
            f"{task.task.correctness}; {settings.num_samples} completions each, of at most {settings.max_completion_tokens} "
            f"tokens, template {template}"
        )
        for bad_row in first_rows(task.loaded, MAX_BAD_ROWS_SHOWN):
            say.line(f"bad row: {bad_row}")
    sample_missing(engine_config(settings), out, chunks, template, say)
    forced: dict[int, list[Chunk]] = {}
    if settings.force_answers:
        forced = forced_chunks(settings, out, chunks, tokenizer)
        (out / FORCED).mkdir(exist_ok=True)
        # One task after the other, as its rewards are loaded once.
        all_forced = [chunk for of in tasks for of_budget in forced.values() for chunk in of_budget if chunk.task is of]
        say.line(f"forced answers: {sum(len(chunk.prompts) for chunk in all_forced)}")
        sample_missing(engine_config(settings, "answers"), out / FORCED, all_forced, template, say)
    _report(settings, out, tasks, chunks, forced, say)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True)
    except FileExistsError as error:
        raise UserError(
            f"option '--out': {str(out)!r} exists already; choose another folder, or go on in it with --resume {out}"
        ) from error
    except OSError as error:
        raise UserError(f"option '--out': cannot create {str(out)!r}: {error.strerror}; choose another folder") from error


def _report(
    settings: EvaluationSettings,
    out: Path,
    tasks: Sequence[TaskPrompts],
    chunks: Sequence[Chunk],
    forced: dict[int, list[Chunk]],
    say: Say,
) -> None:
    """Count what the trace files hold, write it, and print it."""
    metrics, rates = {}, {}
    for of_task in tasks:
        task = of_task.task
        problems = read_problems(out, _steps(chunks, of_task), task.correctness)
        answers = {budget: _answers(out, of_budget, of_task) for budget, of_budget in forced.items()}
        rates[task.name] = pass_rates(problems)
        with ExitStack() as cleanup:
            deadline_s = engine_config(settings).scoring.deadline_s
            same = cleanup.enter_context(MathAnswers(deadline_s)) if task.correctness == MATH else never_the_same
            one_right_answer = task.correctness in ONE_RIGHT_ANSWER
            metrics[task.name] = task_metrics(
                problems, same, settings.token_budgets, answers, one_right_answer=one_right_answer
            )
    curves = curves_of(metrics)
    results = results_of(settings, metrics, tasks)
    write_json(out / PASS_RATES, rates)
    draw_budget_curves(curves, out / CURVE)
    write_json(out / RESULTS, results)
    say.console.print(metrics_table(metrics))
    say.console.print(budget_table(curves))
    say.line(f"results, curves and traces are in {out}; look at the samples with: r1 traces show {out} --heldout --step 1")


def _steps(chunks: Sequence[Chunk], of_task: TaskPrompts) -> list[int]:
    return [chunk.number for chunk in chunks if chunk.task is of_task]


def _answers(out: Path, chunks: Sequence[Chunk], of_task: TaskPrompts) -> list[Sample]:
    """The forced answers of a task at one budget, one for each completion that was longer."""
    problems = read_problems(out / FORCED, _steps(chunks, of_task), of_task.task.correctness)
    return [sample for problem in problems for sample in problem.samples]
