"""The grader on larger files of cases, where they are at hand; tests/math_rows_*.py are the repository's own."""

import json
import re
import threading
from pathlib import Path

import pytest

from r1.config import ScoringConfig
from r1.scoring import RewardPool
from rewards.math_answer import answers_equal, grade

SHARED = Path(__file__).resolve().parents[2] / "shared"


def rows_of(*parts):
    path = SHARED.joinpath(*parts)
    if not path.is_file():
        pytest.skip(f"no {'/'.join(parts)} beside the checkout")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check_adversarial(rows, verdicts):
    wrong = [
        (row["id"], verdict, row["note"])
        for row, verdict in zip(rows, verdicts, strict=True)
        if (row["must"] == "false" and verdict is True) or (row["must"] == "true" and verdict is not True)
    ]
    assert wrong == []


def test_realistic_completions_are_all_judged_right():
    rows = rows_of("cases", "workload.jsonl")
    misses = [(row["id"], row["expected"]) for row in rows if grade(row["completion"], row["gold"]) is not row["expected"]]
    assert (len(rows), misses) == (2100, [])


@pytest.mark.timeout(60)
def test_hostile_completions_fool_nobody_and_run_nothing(tmp_path, monkeypatch):
    rows = rows_of("cases", "adversarial.jsonl")
    monkeypatch.chdir(tmp_path)  # some of them try to write a file here
    check_adversarial(rows, [grade(row["completion"], row["gold"]) for row in rows])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(60)
def test_hostile_completions_from_a_thread(tmp_path, monkeypatch):
    rows = rows_of("cases", "adversarial.jsonl")
    monkeypatch.chdir(tmp_path)
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.extend(grade(row["completion"], row["gold"]) for row in rows))
    thread.start()
    thread.join()
    check_adversarial(rows, verdicts)


def test_hostile_completions_in_the_pool_within_5_seconds_and_1_gib():
    rows = rows_of("cases", "adversarial.jsonl")
    with RewardPool({"math_answer": 1.0}, ScoringConfig(deadline_s=5.0)) as pool:
        scores = pool.score_texts([(row["completion"], {"answer": row["gold"]}) for row in rows])
        assert (pool.num_errors, pool.num_restarts) == ({}, 0)
    check_adversarial(rows, [None if score.reward is None else bool(score.reward) for score in scores])


@pytest.mark.ray
def test_hostile_completions_inside_a_ray_actor():
    import ray

    rows = rows_of("cases", "adversarial.jsonl")

    class Grader:
        def grade_all(self, cases):
            return [grade(completion, gold) for completion, gold in cases]

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        actor = ray.remote(Grader).remote()
        check_adversarial(rows, ray.get(actor.grade_all.remote([(row["completion"], row["gold"]) for row in rows]), timeout=120))
    finally:
        ray.shutdown()


def gsm8k_golds(name):
    return [row["answer"].rpartition("####")[2].strip() for row in rows_of("data", name)]


def with_commas(gold):
    whole, point, decimals = gold.replace(",", "").partition(".")
    return re.sub(r"(?<=\d)(?=(\d{3})+$)", ",", whole) + point + decimals


def written_forms(gold):
    plain = gold.replace(",", "")
    yield from (plain, with_commas(gold), with_commas(gold).replace(",", "{,}"), with_commas(gold).replace(",", r",\!"))
    yield from (f"${plain}$", rf"\${plain}", f"${with_commas(gold)}", f"{plain}.", f"x = {plain}", f"**{plain}**")
    yield from (f"{plain} apples", rf"{plain} \text{{ dollars}}", rf"{plain} \text{{ square feet}}", f"{plain} miles per hour", f"{plain} kg")
    yield from (rf"\boxed{{{plain}}}", rf"\text{{{plain}}}")
    if "." not in plain:
        yield from (f"{plain}.0", f"{plain}.00", rf"\frac{{{2 * int(plain)}}}{{2}}", f"{3 * int(plain)}/3")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_rows"), [("gsm8k_train.jsonl", 7473), ("gsm8k_test.jsonl", 1319)])
def test_each_gsm8k_answer_in_each_form_equals_itself_and_no_other(name, num_rows):
    golds = gsm8k_golds(name)
    assert len(golds) == num_rows
    by_value = {gold.replace(",", ""): gold for gold in golds}
    values = list(by_value)
    wrong = []
    for position, gold in enumerate(golds):
        other = by_value[values[position % len(values)]]
        is_other = float(other.replace(",", "")) != float(gold.replace(",", ""))
        for form in written_forms(gold):
            if answers_equal(form, gold) is not True or grade(f"<think>...</think><answer>{form}</answer>", gold) is not True:
                wrong.append((gold, form, "its own"))
            if is_other and answers_equal(form, other) is not False:
                wrong.append((other, form, "another's"))
    assert wrong == []
