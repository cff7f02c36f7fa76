"""Planted cases of each kind are all found; sound completions are left alone."""

import pytest
from scored_groups import scored_group

from r1.trace_flags import FLAGS, Suspect, correctness, final_answers, flag_step, flags_of, working_of
from r1.traces import write_traces

QUESTION = "What is 12+7?"
SOUND = "<think>12+7 is 19, since 10+7 is 17 and 2 more is 19</think><answer>19</answer>"


def flags(text, *, question=QUESTION, is_right=True, reward=1.1, format_value=1.0):
    breakdown = {"accuracy": float(is_right), "reasoning_format": format_value}
    suspect = Suspect(text=text, question=question, task="arithmetic", reward=reward, breakdown=breakdown)
    return [flag for flag, _ in flags_of(suspect)]


PLANTED = {
    "no_thinking": [
        dict(text="<think> ... </think><answer>19</answer>"),
        dict(text="<think></think><answer>19</answer>", format_value=0.0, reward=0.0),
        dict(text="<answer>19</answer>", reward=0.0),
        dict(text=r"\boxed{19}", reward=0.0),
        dict(text="19", reward=0.0),
    ],
    "no_format": [
        dict(text="so 12+7 makes 19", format_value=0.0, reward=1.0),
        dict(text="<think>12+7</think><answer>19</answer> and more <answer>", format_value=0.0, reward=0.05, is_right=False),
        # The part says 1, and the text says otherwise: a format reward that can be fooled.
        dict(text="so 12+7 makes 19", format_value=1.0, reward=1.1),
    ],
    "repeated": [
        dict(text="<think>" + "so x is 4 " * 20 + "</think><answer>19</answer>"),
        dict(text="<think>12+7" + "=19" * 200, is_right=False, reward=0.0, format_value=0.0),
    ],
    "language_switch": [
        dict(text="<think>12+7 所以 is 19</think><answer>19</answer>"),
        dict(text="<think>двенадцать и семь</think><answer>19</answer>"),
        dict(text="<think>12 plus 7 is 19</think><answer>19</answer>", question="12 加 7 等于多少"),
    ],
    "several_answers": [
        dict(text=r"<think>12+7</think><answer>\boxed{19} or \boxed{20}</answer>"),
        dict(text=r"12+7 is \boxed{\frac{38}{2}}, or \boxed{20}", reward=0.0),
        dict(text="<think>12+7</think><answer>19</answer><answer>20</answer>", format_value=0.0, reward=0.0),
    ],
    "copied_answer": [
        dict(text="<think>easy enough</think><answer>12 + 7</answer>"),
        dict(text=r"the sum is \boxed{x^2+3x}", question="Simplify x^2 + 3x.", reward=0.0),
        dict(text="<answer>12</answer>", is_right=False, reward=0.0, format_value=0.0),
    ],
}
SOUND_ONES = [
    dict(text=SOUND),
    dict(text="<think>first 18? no: 19</think><answer>20</answer>", is_right=False, reward=0.1),
    dict(text=r"<think>\boxed{18}? \boxed{19}!</think><answer>\boxed{19}, that is \boxed{19}</answer>"),
    dict(text=r"12+7 is 19, so \boxed{19}", reward=0.0, format_value=0.0),
    dict(text="<think>12 + 7 with π</think><answer>19</answer>"),
    dict(text="<think>七加十二</think><answer>19</answer>", question="12 加 7 等于多少"),
    dict(text="<think>はいカンジ漢字</think><answer>19</answer>", question="はい、カンジ漢字"),
    # A number of the question may well be the answer, where something was worked out.
    dict(text="<think>he keeps all of them</think><answer>12</answer>", is_right=True),
    dict(text="<think></think><answer>12</answer>", is_right=False, reward=0.0, format_value=0.0, question="What is 112+7?"),
    dict(text="12+7", is_right=False, reward=0.0, format_value=0.0),
]


@pytest.mark.parametrize("flag", FLAGS)
def test_planted_cases_are_found(flag):
    assert len(PLANTED[flag]) >= 2
    for case in PLANTED[flag]:
        assert flag in flags(**case), case


@pytest.mark.parametrize("case", SOUND_ONES)
def test_sound_completions_are_left_alone(case):
    assert flags(**case) == []


def test_every_planted_case_of_a_run_is_found_and_nothing_else(tmp_path):
    planted = [(flag, case) for flag, cases in PLANTED.items() for case in cases]
    written = [*((None, {"text": SOUND}) for _ in range(200)), *planted]
    groups = [
        scored_group(
            [case["text"]],
            [case.get("reward", 1.1)],
            group_id=number,
            breakdowns=[{"accuracy": float(case.get("is_right", True)), "reasoning_format": case.get("format_value", 1.0)}],
            question=case.get("question", QUESTION),
        )
        for number, (_, case) in enumerate(written)
    ]
    write_traces(tmp_path, 5, groups, template="plain")
    num_completions, found = flag_step(tmp_path, 5)
    assert num_completions == len(written)
    assert {(200 + number, flag) for number, (flag, _) in enumerate(planted)} <= {(one.group_id, one.flag) for one in found}
    assert min(one.group_id for one in found) == 200
    assert {one.flag for one in flag_step(tmp_path, 5, flags=("repeated",))[1]} == {"repeated"}


def test_a_run_that_pays_for_no_format_has_none_to_miss():
    suspect = Suspect(text="12+7 is 19", question=QUESTION, task="gsm8k", reward=1.0, breakdown={"math_answer": 1.0})
    assert list(flags_of(suspect, ["no_format"])) == []


@pytest.mark.parametrize(
    ("text", "working"),
    [
        (SOUND, "12+7 is 19, since 10+7 is 17 and 2 more is 19"),
        ("prefilled</think><answer>19</answer>", "prefilled"),
        ("12+7=19\n#### 19", "12+7=19\n"),
        ("first line\nsecond line\n19", "first line\nsecond line"),
    ],
)
def test_what_stands_before_the_answer(text, working):
    assert working_of(text) == working


def test_final_answers():
    assert final_answers("<answer>1<answer>2</answer>") == ["1", "2"]
    assert final_answers(r"<answer>\boxed{1}</answer>") == ["1"]
    assert final_answers(r"\boxed{a{b}c") == ["a{b}c"]
    assert final_answers("none") == []


def test_correctness_is_the_tasks_own_where_it_is_there():
    assert correctness("arithmetic", ("reasoning_format", "accuracy")) == "accuracy"
    assert correctness("math:3-5", ("reasoning_format", "math_answer")) == "math_answer"
    assert correctness("arithmetic", ("mine.py:f", "tag_count")) == "mine.py:f"
    assert correctness("arithmetic", ()) == ""
