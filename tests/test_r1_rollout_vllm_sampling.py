"""What an engine samples with, and what ends a completion, on an exported folder: real vLLM, the tiny model."""

from dataclasses import replace

import pytest
from tiny import engine_options, logprobs_of, mean_difference, prompt_batch, tiny_config

from r1.learner import Learner
from r1.rollout.engine import generate

pytestmark = pytest.mark.slow


def test_log_probabilities_at_another_temperature_and_from_an_exported_folder(tmp_path):
    from r1.rollout.vllm_engine import VllmEngine

    learner = Learner(tiny_config(), str(tmp_path / "weights"))
    for parameter in learner.model.parameters():
        parameter.data.mul_(1.02)
    learner.export(tmp_path / "hf")
    engine = VllmEngine(replace(engine_options(temperature=0.7), model_path=str(tmp_path / "hf")))
    groups = generate(engine, prompt_batch(["12+34="], group_size=8))
    assert mean_difference(learner.model.eval(), groups, temperature=0.7) < 1e-5
    assert mean_difference(learner.model.eval(), groups, temperature=1.0) > 1e-2
    assert logprobs_of(learner.model, groups[0].prompt.token_ids, groups[0].completions[0].token_ids).shape[0] > 1
    a_text_that_stops_ends_a_completion_and_is_no_part_of_it(engine)
    engine.close()
    learner.close()


def a_text_that_stops_ends_a_completion_and_is_no_part_of_it(engine):
    batch = prompt_batch(["12+34="], group_size=16)
    [before] = generate(engine, batch)
    stopped = replace(batch, prompts=tuple(replace(prompt, stop=("k>", "nk")) for prompt in batch.prompts))
    [after] = generate(engine, stopped)
    assert any("nk" in completion.text for completion in before.completions), "some think"
    for old, new in zip(before.completions, after.completions, strict=True):
        assert new.text == old.text.partition("nk")[0]
        assert new.token_ids == old.token_ids[: len(new.token_ids)]  # one token a character, the ones that stop included
        if "nk" in old.text:
            assert (new.finish_reason, len(new.token_ids)) == ("stop", len(new.text) + 2)
    # vLLM looks for it in a text without special tokens, unless it is told otherwise; <|im_end|> is one.
    assert not engine._sampling_params(0, ("<|im_end|>",)).skip_special_tokens
