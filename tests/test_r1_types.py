"""What crosses processes comes out as it went in."""

import pickle
from dataclasses import fields

from r1.types import Completion

COMPLETION = Completion(
    group_id=1,
    sample_id=2,
    token_ids=(3, 4),
    rollout_logprobs=(-0.1, -0.2),
    text="5",
    finish_reason="length",
    policy_version=6,
    later_versions=((7, 1),),
    sample_s=8.0,
)


def test_a_completion_is_pickled_whole():
    # Its pickling is written by hand: a field that is added and forgotten there would be lost.
    defaults = {field.name: field.default for field in fields(Completion)}
    assert all(getattr(COMPLETION, name) != default for name, default in defaults.items())
    again = pickle.loads(pickle.dumps(COMPLETION))
    assert again == COMPLETION
    assert again.sample_s == 8.0  # which is no matter of equality: a run that is repeated takes other times
