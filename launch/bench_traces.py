"""Size of the trace store and speed of the commands that read it, on a run made up for the purpose: `make bench-traces`.

The text is drawn from a small vocabulary with thinking, answers and a few reflections, the tokens from a skewed distribution:
both compress about as well as what a model writes. Each command runs in a process of its own, as a person starts it.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from r1.trace_schema import TOKEN_COLUMNS
from r1.traces import write_traces
from r1.types import Completion, Prompt, Score, ScoredGroup, TokenValues
from tasks.base import Problem

WORDS = (
    "so we have the number and then it is equal to first second total sum of apples each twice half minus plus times divided by "
    "which means that there are left over because he she they buys sells pays costs dollars hours days per week remaining now"
).split()
REFLECTIONS = ("Wait, ", "Let me check: ", "Alternatively, ")
COMMANDS: Sequence[Sequence[str]] = (
    ("traces", "ls"),
    ("traces", "stats"),
    ("traces", "grep", "(?i)let me check"),
    ("traces", "grep", "(?i)wait", "--in", "thinking"),
    ("traces", "show"),
    ("traces", "show", "--step", "1", "--best"),
    ("traces", "group", "--step", "1", "--group", "3"),
    ("traces", "diff", "--problem", "problem-3"),
    ("traces", "flag"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--completions", type=int, default=102_400)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=200, help="mean length")
    parser.add_argument("--run", type=Path, help="an existing folder of this program's, or where to make one and leave it")
    arguments = parser.parse_args()
    run_dir = arguments.run or Path(tempfile.mkdtemp(prefix="r1-bench-traces-"))
    try:
        if not (run_dir / "traces").is_dir():
            start = time.perf_counter()
            make_run(run_dir, arguments.completions, arguments.steps, arguments.tokens)
            print(f"written in {time.perf_counter() - start:.1f} s")
        print_sizes(run_dir)
        for command in COMMANDS:
            seconds, peak_mib = timed([*command[:2], str(run_dir), *command[2:]])
            print(f"r1 {' '.join(command):45} {seconds:6.2f} s {peak_mib:6.0f} MiB", flush=True)
    finally:
        if arguments.run is None:
            shutil.rmtree(run_dir)


def print_sizes(run_dir: Path) -> None:
    """What the traces take, and by kind of column for 1,000 completions of 1,000 tokens."""
    num_completions, num_tokens, sizes = 0, 0, {"text and numbers": 0, **dict.fromkeys(TOKEN_COLUMNS, 0)}
    for path in run_dir.glob("traces/*.parquet"):
        footer = pq.read_metadata(path)
        num_completions += footer.num_rows
        for part in (footer.row_group(number) for number in range(footer.num_row_groups)):
            for column in (part.column(number) for number in range(part.num_columns)):
                name = column.path_in_schema.partition(".")[0]
                sizes[name if name in sizes else "text and numbers"] += column.total_compressed_size
        num_tokens += sum(pq.read_table(path, columns=["num_tokens"])["num_tokens"].to_pylist())
    mean, num_mib = num_tokens / num_completions, sum(sizes.values()) / 2**20
    print(f"{num_completions:,} completions, {mean:.0f} tokens each: {num_mib:.0f} MiB")
    of_million = {name: size / 2**20 / (num_tokens / 1e6) for name, size in sizes.items()}
    parts = ", ".join(f"{name} {size:.2f}" for name, size in of_million.items())
    print(f"MiB for 1,000 completions of 1,000 tokens: {sum(of_million.values()):.2f} ({parts})")


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak memory in MiB of one `r1` command, the better of two runs: the first one may read from a cold disk."""
    measured = []
    for _ in range(2):
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "r1.cli.main", *command], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # Popen would wait for what has been waited for
        if process.returncode:
            raise SystemExit(f"r1 {' '.join(command)} ended with {process.returncode}")
        measured.append((time.perf_counter() - start, usage.ru_maxrss / 1024))
    return min(measured)


def make_run(run_dir: Path, num_completions: int, num_steps: int, mean_tokens: int) -> None:
    """Write `num_steps` trace files with groups of 16."""
    rng = random.Random(0)
    # Zipf's law over 150,000 ids: the n-th most frequent is 1/n as frequent as the first.
    pool = [int(150_000 ** rng.random()) for _ in range(1_000_000)]
    logprobs = [-rng.expovariate(2.0) for _ in range(1_000_000)]
    num_groups = round(num_completions / num_steps / 16)
    for step in range(1, num_steps + 1):
        groups = [_group(rng, pool, logprobs, group_id, mean_tokens) for group_id in range(num_groups)]
        write_traces(run_dir, step, groups, template="r1_zero")


def _group(rng: random.Random, pool: list[int], logprobs: list[float], group_id: int, mean_tokens: int) -> ScoredGroup:
    problem = Problem(problem_id=f"problem-{group_id}", question=_words(rng, 30) + "?", reference={"answer": str(group_id)})
    text = problem.question + " <think>"
    prompt = Prompt(group_id=group_id, task="gsm8k", problem=problem, text=text, prefill="", token_ids=(1,))
    completions, values = [], []
    for sample_id in range(16):
        length = rng.randint(mean_tokens // 2, mean_tokens * 3 // 2)
        first = rng.randrange(len(pool) - length)
        numbers = logprobs[first : first + length]
        text = f"<think>{_words(rng, length * 4 // 5)}</think><answer>{rng.randrange(99)}</answer>"
        completions.append(
            Completion(
                group_id=group_id,
                sample_id=sample_id,
                token_ids=tuple(pool[first : first + length]),
                rollout_logprobs=tuple(numbers),
                text=text,
                finish_reason="length" if rng.random() < 0.05 else "stop",
                policy_version=0,
                sample_s=rng.random(),
            )
        )
        noisy = [number + rng.gauss(0, 0.01) for number in numbers]
        values.append(TokenValues(old_logprobs=array("f", noisy), entropies=array("f", logprobs[first : first + length])))
    rewards = [float(rng.random() < 0.4) for _ in completions]
    return ScoredGroup(
        prompt=prompt,
        completions=tuple(completions),
        scores=tuple(
            Score(reward=reward + 0.1, breakdown={"math_answer": reward, "reasoning_format": 1.0}, score_s=0.001)
            for reward in rewards
        ),
        advantages=tuple(rewards),
        token_values=tuple(values),
    )


def _words(rng: random.Random, count: int) -> str:
    words = rng.choices(WORDS, k=count)
    for place in range(0, count, 40):
        words[place] = rng.choice(REFLECTIONS) if rng.random() < 0.3 else str(rng.randrange(1000))
    return " ".join(words)


if __name__ == "__main__":
    main()
