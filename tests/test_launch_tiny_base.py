from itertools import islice
from random import Random

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch.make_tiny_base import (
    CHARACTERS,
    MAX_POSITIONS,
    MIXTURE,
    SHIPPED_MODEL,
    carry_working,
    kind_of,
    make_tokenizer,
    training_lines,
    write_completion,
)
from r1.prompts import TEMPLATES
from rewards.reasoning_format import reasoning_format
from tasks.arithmetic import ARITHMETIC, HELDOUT_ONE_IN
from tasks.base import Source, is_heldout


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(SHIPPED_MODEL)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (37, 485, "7+5+0=12,3+8+1=12,0+4+1=5"),  # 7+5=12 carry 1, 3+8+1=12 carry 1, 4+1=5: 522
        (485, 37, "5+7+0=12,8+3+1=12,4+0+1=5"),
        (12, 34, "2+4+0=6,1+3+0=4"),  # 46, no carry
        (999, 999, "9+9+0=18,9+9+1=19,9+9+1=19"),  # 1998: the last column keeps its carry
    ],
)
def test_the_working_adds_column_by_column(left, right, expected):
    assert carry_working(left, right) == expected


def test_the_working_leads_to_its_answer():
    completion = write_completion("working", 37, 485)
    assert completion == "<think>7+5+0=12,3+8+1=12,0+4+1=5</think><answer>522</answer>"


@pytest.mark.parametrize("kind", MIXTURE)
def test_each_kind_is_recognised_and_only_two_are_in_the_format(kind):
    completion = write_completion(kind, 37, 485)
    assert kind_of(completion) == kind
    assert reasoning_format(completion, {}) == (kind in ("working", "easy"))


def test_the_training_text_has_no_heldout_problem_and_follows_the_mixture():
    lines = list(islice(training_lines(Random(0), MIXTURE), 4_000))
    assert not any(is_heldout(question.removesuffix("="), HELDOUT_ONE_IN) for question, _ in lines)
    for kind, share in MIXTURE.items():
        assert sum(kind_of(completion) == kind for _, completion in lines) / len(lines) == pytest.approx(share, abs=0.03)


def test_every_character_of_problems_and_training_text_is_a_token(tokenizer):
    problems = ARITHMETIC.load("heldout", 0, Source()).problems
    text = "".join(problem.question for problem in problems)
    text += "".join(question + completion for question, completion in islice(training_lines(Random(0), MIXTURE), 1_000))
    assert set(text) <= set(CHARACTERS)
    assert tokenizer.decode(tokenizer.encode(text[:5_000])) == text[:5_000]


@pytest.mark.parametrize("text", [CHARACTERS, "12 + 7 = 19\n\n  so <answer> 19 </answer> .", " a  b ", "don , t ?", "\n", ""])
def test_the_tokenizer_round_trips_exactly_one_token_a_character(tokenizer, text):
    token_ids = tokenizer.encode(text)
    assert len(token_ids) == len(text)  # nothing is put before or after
    assert tokenizer.decode(token_ids) == text


def test_the_shipped_tokenizer_is_the_one_that_the_program_makes(tokenizer):
    assert tokenizer.get_vocab() == make_tokenizer().get_vocab()
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (0, 1, None)
    assert tokenizer.decode([tokenizer.eos_token_id, *tokenizer.encode("12"), 0], skip_special_tokens=True) == "12"


def test_a_foreign_character_raises(tokenizer):
    with pytest.raises(Exception, match=r"Missing .*UNK.* token"):
        tokenizer.encode(TEMPLATES["r1_zero"].text)  # has capital letters


def test_the_shipped_model_loads_and_prefers_a_completion_to_noise(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(SHIPPED_MODEL)
    assert model.config.head_dim == 32
    assert model.config.tie_word_embeddings
    assert model.config.max_position_embeddings == MAX_POSITIONS
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    prompt = tokenizer.encode("37+485=<think>")
    completion = [*tokenizer.encode("7+5+0=12,3+8+1=12,0+4+1=5</think><answer>522</answer>"), tokenizer.eos_token_id]
    with torch.no_grad():
        logits_TV = model(input_ids=torch.tensor([prompt + completion])).logits[0]
    predicted = logits_TV[len(prompt) : -1].argmax(dim=-1).tolist()
    assert predicted == completion[1:]  # once it has begun to work, it knows how to go on


def test_the_shipped_files_are_small_and_complete():
    files = {path.name: path.stat().st_size for path in SHIPPED_MODEL.iterdir()}
    assert set(files) == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(files.values()) < 4_000_000
    assert all(torch.isfinite(tensor).all() for tensor in load_file(SHIPPED_MODEL / "model.safetensors").values())
