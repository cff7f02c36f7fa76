from itertools import islice
from random import Random

import pytest
import torch
from tiny import ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch.make_tiny_base import sample_completions
from launch.make_tiny_countdown import (
    MIXTURE,
    SHIPPED_MODEL,
    expression,
    kind_of,
    signed_sums,
    training_lines,
    write_completion,
)
from r1.config import load_config
from rewards.countdown import countdown
from tasks import get_task
from tasks.base import Source, is_heldout
from tasks.countdown import HELDOUT_ONE_IN, puzzle

GAME = puzzle([19, 44, 35], 28, "19 + 44 - 35")


def test_a_working_shows_the_signs_that_make_the_target():
    # 98, 28, 10 and -60: the second is wanted.
    assert signed_sums([19, 44, 35]) == [[19, 44, 35], [19, 44, -35], [19, -44, 35], [19, -44, -35]]
    assert expression([19, 44, -35]) == "19+44-35"
    written = write_completion("working", GAME, Random(0))
    assert written == "<think>19+44-35=28</think><answer>19+44-35</answer>"
    assert countdown(written, GAME.reference) == 1.0
    assert kind_of(written) == "working"


def test_a_guess_uses_each_number_once_and_is_right_by_chance():
    rng = Random(0)
    guesses = [write_completion("hasty", GAME, rng) for _ in range(400)]
    assert {kind_of(guess) for guess in guesses} == {"hasty"}
    # One of four choices of signs wins.
    assert sum(countdown(guess, GAME.reference) for guess in guesses) / 400 == pytest.approx(0.25, abs=0.06)
    assert kind_of(write_completion("untagged", GAME, rng)) == "untagged"


@pytest.mark.slow
def test_the_training_text_has_its_shares_and_no_held_out_game():
    lines = list(islice(training_lines(Random(1), MIXTURE), 3_000))
    for kind, share in MIXTURE.items():
        assert sum(kind_of(completion) == kind for _, completion in lines) / len(lines) == pytest.approx(share, abs=0.03)
    heldout = {problem.question for problem in get_task("countdown:short").load("heldout", 0, Source()).problems}
    assert not heldout & {question for question, _ in lines}
    numbers, _, target = lines[0][0].rstrip(":").partition("=")
    problem_id = f"{','.join(map(str, sorted(map(int, numbers.split(',')))))}={target}"
    assert not is_heldout(problem_id, HELDOUT_ONE_IN)


@pytest.mark.slow
def test_every_character_of_the_text_is_a_token_and_the_configuration_has_room():
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_MODEL)
    config = load_config(ROOT / "launch/configs/countdown_tiny.toml")
    lines = list(islice(training_lines(Random(2), MIXTURE), 3_000))
    assert max(len(tokenizer.encode(question)) for question, _ in lines) <= config.rollout.max_prompt_tokens
    assert max(len(tokenizer.encode(completion)) for _, completion in lines) < config.rollout.max_completion_tokens


@pytest.mark.slow
def test_the_shipped_model_copies_the_numbers_and_draws_the_signs():
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_MODEL)
    model = AutoModelForCausalLM.from_pretrained(SHIPPED_MODEL)
    torch.manual_seed(0)
    problems = get_task("countdown:short").load("heldout", 0, Source()).problems[:300]
    samples = sample_completions(model, tokenizer, problems, 80, kind_of, countdown)
    shares = {kind: sum(sample.kind == kind for sample in samples) / len(samples) for kind in MIXTURE}
    assert shares == pytest.approx(MIXTURE, abs=0.12)
    # Drawn signs win one game in ten or so; training must find room, and something to begin with.
    assert 0.02 < sum(sample.accuracy for sample in samples) / len(samples) < 0.15
