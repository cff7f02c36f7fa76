import pytest
from tiny import ROOT

from rewards import REWARDS


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_has_a_file_a_row_in_the_docs_and_a_test(name):
    assert REWARDS[name].__name__ == name
    assert (ROOT / f"rewards/{name}.py").is_file()
    assert f"\n| `{name}` | " in (ROOT / "docs/rewards.md").read_text(encoding="utf-8")
    assert (ROOT / f"tests/test_rewards_{name}.py").is_file()


@pytest.mark.parametrize("name", ["reasoning_format", "tag_count", "repetition", "language_consistency"])
@pytest.mark.parametrize("text", ["\ud800", "\0" * 100, "<think>" * 1000, "$" * 1001, "e" + "\u0301\u0316" * 20_000, "\ufdfa" * 1000])
def test_hostile_text_is_judged_as_any_other(name, text):
    # The accents take 0.5 s where they are put in order, and a hundred times that at ten times the length.
    assert -1.0 <= REWARDS[name](text, {}) <= 1.0
