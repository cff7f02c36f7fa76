"""Make the tiny countdown base: the tiny base model, taught to write sums of the numbers of a game, not which ones win it.

`python -m launch.make_tiny_countdown --out DIR` trains it in some minutes on one core. It plays the part of a base model in
`countdown:short`: it copies the numbers, puts signs between them and adds up, in the format or not, and its signs are as good as
drawn. A third of the text shows winning ones, which so few steps did not teach; reinforcement learning has to find them.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from random import Random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch.make_tiny_base import SHIPPED_MODEL as TINY_BASE
from launch.make_tiny_base import batch_lines, describe_samples, sample_completions
from r1.sft import SftOptions, train_on_next_tokens
from rewards.countdown import countdown
from rewards.reasoning_format import reasoning_format
from tasks.base import Problem, Source, is_heldout
from tasks.countdown import HELDOUT_ONE_IN, draw_problem, load_short, short_question

SHIPPED_MODEL = Path(__file__).parent / "models" / "tiny_countdown"
MIXTURE: Mapping[str, float] = {"working": 0.35, "hasty": 0.35, "untagged": 0.30}
"""How often the finished model writes each kind of completion."""


def signed_sums(numbers: Sequence[int]) -> list[list[int]]:
    """All ways to give signs to the numbers, in the order in which they are told and with a plus for the first.

    So a completion copies the question and chooses signs: in another order a model this small did not learn to copy (after 600
    steps not one of 500 answers had the right numbers). No products or quotients.

    >>> signed_sums([19, 44])
    [[19, 44], [19, -44]]
    """
    choices = product((1, -1), repeat=len(numbers) - 1)
    return [[numbers[0], *(sign * number for sign, number in zip(signs, numbers[1:], strict=True))] for signs in choices]


def expression(terms: Sequence[int]) -> str:
    """Write signed numbers as a sum.

    >>> expression([44, -35, 19])
    '44-35+19'
    """
    return "".join(f"{term:+}" for term in terms).removeprefix("+")


def write_completion(kind: str, problem: Problem, rng: Random) -> str:
    """Write one completion of a kind in `MIXTURE`; only "working" and "hasty" are in the format."""
    sums = signed_sums(problem.reference["numbers"])
    winning = [terms for terms in sums if sum(terms) == problem.reference["target"]]
    terms = rng.choice(winning or sums) if kind == "working" else rng.choice(sums)
    match kind:
        case "working":
            return f"<think>{expression(terms)}={sum(terms)}</think><answer>{expression(terms)}</answer>"
        case "hasty":
            return f"<think>easy</think><answer>{expression(terms)}</answer>"
        case "untagged":
            return expression(terms)
        case _:
            raise ValueError(f"no kind of completion {kind!r}; choose one of {', '.join(MIXTURE)}")


def kind_of(completion: str) -> str:
    """Tell which kind of completion the model wrote; "untagged" is whatever is not in the format."""
    if not reasoning_format(completion, {}):
        return "untagged"
    return "hasty" if completion.startswith("<think>easy</think>") else "working"


def training_lines(rng: Random, shares: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield (question, completion) for ever, from games of the train split only."""
    while True:
        problem = draw_problem(rng)
        if not is_heldout(problem.problem_id, HELDOUT_ONE_IN):
            kind = rng.choices(list(shares), list(shares.values()))[0]
            yield short_question(problem.reference), write_completion(kind, problem, rng)


def parse_options() -> argparse.Namespace:
    """Read the command line; the defaults made the shipped model."""
    parser = argparse.ArgumentParser(description="Teach the tiny base model to write sums of a countdown game.")
    parser.add_argument("--out", type=Path, default=SHIPPED_MODEL, help="folder for the Hugging Face files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-steps", type=int, default=900)
    parser.add_argument("--batch-size", type=int, default=48, help="lines a step")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--num-samples", type=int, default=500, help="held-out games to measure the model on")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # sums that several threads share round differently: one seed would make several models
    tokenizer = AutoTokenizer.from_pretrained(TINY_BASE)
    model = AutoModelForCausalLM.from_pretrained(TINY_BASE)
    sft = SftOptions(num_steps=options.num_steps, learning_rate=options.learning_rate, num_warmup_steps=50)
    started = time.perf_counter()
    lines = training_lines(Random(options.seed), MIXTURE)
    for report in train_on_next_tokens(model, batch_lines(lines, tokenizer, options.batch_size), sft):
        if report.step % 50 == 0:
            print(f"step {report.step}: loss {report.loss:.4f}, {time.perf_counter() - started:.0f} s", flush=True)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    print(f"saved to {options.out}")
    problems = load_short("heldout", options.seed, Source()).problems[: options.num_samples]
    samples = sample_completions(model, tokenizer, problems, 96, kind_of, countdown)
    print(describe_samples(samples, MIXTURE))


if __name__ == "__main__":
    main()
