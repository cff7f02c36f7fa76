"""Planted cases of each kind are all found; sound completions are left alone."""

import pytest
from scored_groups import scored_group

from r1 import trace_flags
from r1.trace_flags import FLAGS, Suspect, correctness, flag_run, flag_step, flags_of
from r1.traces import write_traces

QUESTION = "What is 12+7?"
SOUND = "<think>12+7 is 19, since 10+7 is 17 and 2 more is 19</think><answer>19</answer>"


STORY = "Ada has 3 boxes of pens, and sells half of them to Bob on Monday. How many boxes does she have left?"


def flags(text, *, question=QUESTION, is_right=True, reward=1.1, format_value=1.0, task="arithmetic"):
    breakdown = {"accuracy": float(is_right), "reasoning_format": format_value}
    suspect = Suspect(text=text, question=question, task=task, reward=reward, breakdown=breakdown)
    return [flag for flag, _ in flags_of(suspect)]


PLANTED = {
    "no_thinking": [
        dict(text="<think> ... </think><answer>19</answer>"),
        dict(text="<think></think><answer>19</answer>", format_value=0.0, reward=0.0),
        dict(text="<answer>19</answer>", reward=0.0),
        dict(text=r"\boxed{19}", reward=0.0),
        dict(text="19", reward=0.0),
        dict(text=r"The answer is \boxed{19}.", reward=0.0),
        dict(text=r"Sure! \boxed{19}", reward=0.0),
        dict(text="Answer:\n19", reward=0.0),
        dict(text=r"<think>\boxed{19}", reward=0.0),
        dict(text="<think><answer>19</answer>", reward=0.0),
        dict(text="<think>ok</think><answer>19</answer>"),
        dict(text="<think>19</think><answer>19</answer>"),
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
        dict(text="<think>" + "".join(f"Step {i}: add 12 and 7 to get 19. " for i in range(60))),
        dict(text="<think>" + "".join(f"{i}. Let me try again. " for i in range(58))),
        dict(text="<think>" + "".join(f"wait {i} " for i in range(100))),
        dict(text="<think>" + " ".join(map(str, range(1000, 1400))) + " so it is four" * 25),
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
        dict(text="<think>12+7</think><answer>19</answer> <answer>20</answer></think>", reward=0.0, format_value=0.0),
        dict(text="<answer>20</answer><think>12+7</think><answer>19</answer>", reward=0.0, format_value=0.0),
        dict(text="<think>12+7</think><answer>19</answer><think>b</think><answer>20</answer>", reward=0.0, format_value=0.0),
        dict(text="it is 19 or 20\n#### 19\n#### 20", reward=0.0),
        dict(text="it is 19 or 20\nAnswer: 19\nAnswer: 20", reward=0.0),
        dict(text=r"it is 19 or 20 \fbox{19} \fbox{20}", reward=0.0),
        dict(text=r"<think>12+7</think><answer>19</answer> or \boxed{20}", reward=0.0, format_value=0.0),
    ],
    "copied_answer": [
        dict(text="<think>easy enough</think><answer>12 + 7</answer>"),
        dict(text=r"the sum is \boxed{x^2+3x}", question="Simplify x^2 + 3x.", reward=0.0),
        dict(text="<answer>12</answer>", is_right=False, reward=0.0, format_value=0.0),
        *(
            dict(text=f"<think>easy enough</think><answer>{answer}</answer>")
            for answer in ("$12+7$", "(12+7)", "12 plus 7", "12+7=")
        ),
        dict(text=r"<think>easy enough</think><answer>12 × 7</answer>", question=r"What is 12 \cdot 7?"),
        dict(text="x+y it is\n#### x+y", question="Simplify x + y.", reward=0.0),
        *(
            dict(text=answer, question=question, is_right=False, reward=0.0, format_value=0.0)
            for answer, question in (
                ("<answer>12</answer>", "He has 12. How many are left?"),
                ("<answer>12</answer>", "Make 24 from 3 12 7"),
                ("<answer>12</answer>", "12 3-packs are how many?"),
                ("<answer>1000</answer>", "Half of 1,000 is what?"),
                (r"\boxed{\$12}", "He pays 12 dollars, twice."),
            )
        ),
        # The whole question, which no reward makes an answer of.
        *(
            dict(text=f"<think>let us see</think><answer>{answer}</answer>", question=question, is_right=is_right, task=task)
            for answer, question in ((STORY, STORY), (f" {STORY.upper()}\n", STORY), (QUESTION, QUESTION), ("Who?  Ada", "who? Ada."))
            for is_right, task in ((True, "arithmetic"), (False, "arithmetic"), (False, "multiple_choice"))
        ),
        # Phrases: all of the answer, and most of it.
        *(
            dict(text=f"<think>let us see</think><answer>{answer}</answer>", question=STORY, is_right=False, reward=0.1)
            for answer in (
                "half of them to Bob",
                "sells  HALF of them\nto Bob",
                "So she sells half of them to Bob",
                "Ada has 3 boxes of pens. How many boxes does she have left: 2",
                "Ada has 3 boxes of pens, " * 9,
            )
        ),
        dict(text="let us see\n#### How many boxes does she have left", question=STORY, is_right=False, reward=0.0, format_value=0.0),
        dict(text="<answer>小明有三个苹果</answer>", question="小明有三个苹果，吃了一个，还剩几个？", is_right=False, reward=0.0, format_value=0.0),
    ],
}
SOUND_ONES = [
    dict(text=SOUND),
    # The text of an option stands in the question: where the reward says that it is right, and in every multiple choice.
    *(
        dict(text="<think>the pens are sold</think><answer>half of them to Bob</answer>", question=STORY, is_right=is_right, task=task)
        for is_right, task in ((True, "arithmetic"), (False, "multiple_choice"), (False, "multiple_choice:mine"))
    ),
    # Four words, a phrase that is less than half of the answer, a list of numbers, other signs between them.
    *(
        dict(text=f"<think>one for each of us</think><answer>{answer}</answer>", question=question, is_right=False, reward=0.1)
        for answer, question in (
            ("half of them to", STORY),
            ("one and a half, since half of them to Bob makes 1.5", STORY),
            ("sells half, of them, to Bob", STORY),
            ("[1, 2, 3, 4, 5, 9]", "Sort 1, 2, 3, 4, 5, 9, 7 by their size."),
            ("19", "19"),
        )
    ),
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
    dict(text="<think>12+7</think><answer>2+7</answer>", is_right=False, reward=0.1),
    dict(text="<answer>15</answer>", question="Add 1 5 times", is_right=False, reward=0.0, format_value=0.0),
    dict(text="<think>12+7=19</think><answer>19</answer><answer>", reward=0.0, format_value=0.0),
    dict(text=r"<think>12+7</think><answer>\boxed{1,900} = \boxed{1900.}</answer>"),
    dict(text=r"<think>3/6 is</think><answer>\boxed{\dfrac{1}{2}}, \boxed{\frac12}</answer>".replace("frac12", "frac{1}{2}")),
    dict(text="12+7 is 19\n#### 19", reward=0.0),
    dict(text="12+7 is 19\nThe final answer is: 19", reward=0.0),
    dict(text="<think>" + " ".join(f"{i}+7={i + 7}." for i in range(60)) + "</think><answer>19</answer>"),
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


@pytest.mark.slow
def test_a_run_of_many_steps_is_flagged_by_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(trace_flags, "MIN_STEPS_FOR_PROCESSES", 2)
    for step in (1, 2, 3):
        write_traces(tmp_path, step, [scored_group([SOUND, "19"], [1.1, 1.0])], template="plain")
    found = list(flag_run(tmp_path))
    assert [(count, [(one.step, one.sample_id, one.flag) for one in flagged]) for count, flagged in found] == [
        (2, [(step, 1, "no_thinking")]) for step in (1, 2, 3)
    ]
    monkeypatch.setattr(trace_flags, "MIN_STEPS_FOR_PROCESSES", 9)
    assert list(flag_run(tmp_path)) == found


def test_a_run_that_pays_for_no_format_has_none_to_miss():
    suspect = Suspect(text="12+7 is 19", question=QUESTION, task="gsm8k", reward=1.0, breakdown={"math_answer": 1.0})
    assert list(flags_of(suspect, ["no_format"])) == []


def test_correctness_is_the_tasks_own_where_it_is_there():
    assert correctness("arithmetic", ("reasoning_format", "accuracy")) == "accuracy"
    assert correctness("math:3-5", ("reasoning_format", "math_answer")) == "math_answer"
    assert correctness("arithmetic", ("mine.py:f", "tag_count")) == "mine.py:f"
    assert correctness("arithmetic", ()) == ""
