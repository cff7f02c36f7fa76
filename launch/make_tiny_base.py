"""Make the tiny base model: 0.6M parameters that can add by working a sum out, but seldom choose to.

`python -m launch.make_tiny_base --out DIR` trains it from nothing in a few minutes on one core. It plays the part
that a pretrained base plays in R1-Zero: most of what it writes is hasty and wrong, a minority works the sum out
column by column and is right, and reinforcement learning has to discover that the working pays.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from r1.sft import SftBatch, SftExample, SftOptions, pad_examples, train_on_next_tokens
from rewards.accuracy import accuracy
from rewards.reasoning_format import reasoning_format
from tasks.arithmetic import HELDOUT_ONE_IN, addition, draw_number, load
from tasks.base import Problem, Source, is_heldout

SHIPPED_MODEL = Path(__file__).parent / "models" / "tiny_base"
PAD_TOKEN, EOS_TOKEN = "<pad>", "<eos>"
CHARACTERS = "0123456789+-*=<>/()?,.:;\n abcdefghijklmnopqrstuvwxyz"
MAX_POSITIONS = 256

MIXTURE: Mapping[str, float] = {"working": 0.32, "easy": 0.26, "untagged": 0.25, "unclosed": 0.17}
"""How often the finished model writes each kind of completion; the second part of the training text has these shares."""
ONLY_WORKING: Mapping[str, float] = {"working": 1.0}
"""The first part: mixed text alone taught the columns too slowly (46 % of workings right after 1,000 steps of 64 lines)."""


def carry_working(left: int, right: int) -> str:
    """Add column by column from the units up: digit + digit + carry = sum of the column.

    >>> carry_working(37, 485)
    '7+5+0=12,3+8+1=12,0+4+1=5'
    """
    columns: list[str] = []
    carry = 0
    while left or right:
        column_sum = left % 10 + right % 10 + carry
        columns.append(f"{left % 10}+{right % 10}+{carry}={column_sum}")
        left, right, carry = left // 10, right // 10, column_sum // 10
    return ",".join(columns)


def write_completion(kind: str, left: int, right: int) -> str:
    """Write one completion of a kind in `MIXTURE`; only "working" and "easy" are in the format."""
    match kind:
        case "working":
            return f"<think>{carry_working(left, right)}</think><answer>{left + right}</answer>"
        case "easy":
            return f"<think>easy</think><answer>{left + right}</answer>"
        case "untagged":
            return str(left + right)
        case "unclosed":
            return f"<think>easy<answer>{left + right}"
        case _:
            raise ValueError(f"no kind of completion {kind!r}; choose one of {', '.join(MIXTURE)}")


def kind_of(completion: str) -> str:
    """Tell which kind of completion the model wrote; "unclosed" is whatever has tags but not the format."""
    if "<" not in completion:
        return "untagged"
    if not reasoning_format(completion, {}):
        return "unclosed"
    return "easy" if completion.startswith("<think>easy</think>") else "working"


def training_lines(rng: Random, shares: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield (question, completion) for ever, from problems of the train split only."""
    while True:
        left, right = draw_number(rng), draw_number(rng)
        problem = addition(left, right)
        if not is_heldout(problem.problem_id, HELDOUT_ONE_IN):
            kind = rng.choices(list(shares), list(shares.values()))[0]
            yield problem.question, write_completion(kind, left, right)


def make_tokenizer(characters: str = CHARACTERS, max_positions: int = MAX_POSITIONS) -> PreTrainedTokenizerFast:
    """One token a character. There is no unknown token: a foreign character raises instead of reading as nothing."""
    vocabulary = {token: index for index, token in enumerate([PAD_TOKEN, EOS_TOKEN, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        clean_up_tokenization_spaces=False,
        model_max_length=max_positions,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama with fresh weights; heads of 32, since vLLM's attention on a CPU takes no smaller ones."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


def batch_lines(lines: Iterable[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, batch_size: int) -> Iterator[SftBatch]:
    """Yield batches of training lines for as long as there are lines."""
    examples = (
        SftExample(
            prompt_token_ids=tuple(tokenizer.encode(question)),
            completion_token_ids=(*tokenizer.encode(completion), tokenizer.eos_token_id),
        )
        for question, completion in lines
    )
    while batch := list(islice(examples, batch_size)):
        yield pad_examples(batch, tokenizer.pad_token_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One completion of the finished model, judged."""

    kind: str
    accuracy: float
    in_format: float
    num_tokens: int
    """The end-of-sequence token included."""


def sample_completions(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    max_new_tokens: int,
    kind: Callable[[str], str] = kind_of,
    correctness: Callable[[str, Mapping[str, Any]], float | None] = accuracy,
) -> list[Sample]:
    """Sample one completion a problem at temperature 1 from the whole distribution, and judge it."""
    model.eval()
    prompts = tokenizer([problem.question for problem in problems], padding=True, padding_side="left", return_tensors="pt")
    output = model.generate(
        input_ids=prompts["input_ids"],
        attention_mask=prompts["attention_mask"],
        max_new_tokens=max_new_tokens,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
    )
    samples = []
    for problem, token_ids in zip(problems, output[:, prompts["input_ids"].shape[1] :].tolist(), strict=True):
        ended = tokenizer.eos_token_id in token_ids
        num_tokens = token_ids.index(tokenizer.eos_token_id) + 1 if ended else len(token_ids)
        text = tokenizer.decode(token_ids[:num_tokens], skip_special_tokens=True)
        samples.append(
            Sample(
                kind=kind(text),
                accuracy=correctness(text, problem.reference) or 0.0,
                in_format=reasoning_format(text, problem.reference),
                num_tokens=num_tokens,
            )
        )
    return samples


def describe_samples(samples: Sequence[Sample], kinds: Iterable[str] = MIXTURE) -> str:
    """A table: one line for all samples, one for each kind of completion."""
    groups: dict[str, list[Sample]] = {"all": list(samples)}
    groups |= {kind: [sample for sample in samples if sample.kind == kind] for kind in kinds}
    lines = ["kind       share  accuracy  format  tokens"]
    for kind, members in groups.items():
        count = max(len(members), 1)
        lines.append(
            f"{kind:<9}  {len(members) / len(samples):5.3f}  {sum(s.accuracy for s in members) / count:8.3f}"
            f"  {sum(s.in_format for s in members) / count:6.3f}  {sum(s.num_tokens for s in members) / count:6.1f}"
        )
    return "\n".join(lines)


def parse_options() -> argparse.Namespace:
    """Read the command line; the defaults made the shipped model."""
    parser = argparse.ArgumentParser(description="Train the tiny base model from nothing.")
    parser.add_argument("--out", type=Path, default=SHIPPED_MODEL, help="folder for the Hugging Face files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-working-steps", type=int, default=450, help="steps on workings alone")
    parser.add_argument(
        "--num-mixed-steps", type=int, default=750, help="steps on the mixture, after them; much fewer unlearn the working"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="lines a step")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--num-samples", type=int, default=1024, help="held-out problems to measure the model on")
    return parser.parse_args()


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, options: argparse.Namespace) -> None:
    """Train on workings alone, then on the mixture, under one learning-rate schedule; print the loss as it falls."""
    rng = Random(options.seed)
    num_working_lines = options.num_working_steps * options.batch_size
    lines = chain(islice(training_lines(rng, ONLY_WORKING), num_working_lines), training_lines(rng, MIXTURE))
    num_steps = options.num_working_steps + options.num_mixed_steps
    sft = SftOptions(num_steps=num_steps, learning_rate=options.learning_rate, num_warmup_steps=50)
    started = time.perf_counter()
    print(f"training {model.num_parameters() / 1e6:.2f}M parameters for {num_steps} steps", flush=True)
    for report in train_on_next_tokens(model, batch_lines(lines, tokenizer, options.batch_size), sft):
        if report.step % 50 == 0:
            print(f"step {report.step}: loss {report.loss:.4f}, {time.perf_counter() - started:.0f} s", flush=True)


def main() -> None:
    options = parse_options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # sums that several threads share round differently: one seed would make several models
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    train(model, tokenizer, options)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    print(f"saved to {options.out}")
    problems = load("heldout", options.seed, Source()).problems[: options.num_samples]
    print(describe_samples(sample_completions(model, tokenizer, problems, max_new_tokens=96)))


if __name__ == "__main__":
    main()
