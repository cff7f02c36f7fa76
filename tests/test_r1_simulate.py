import json
import re
from pathlib import Path

import matplotlib.image
import pytest
from scored_groups import scored_group
from typer.main import get_command

from r1.config import load_config
from r1.errors import UserError
from r1.rollout.scheduler import GroupScheduler
from r1.runtime import rollout_pool
from r1.simulate import SLICE_S, app, main
from r1.simulated_engine import EngineSpeed
from r1.simulation_fit import fit_runs, groups_of_run, measured_run
from r1.traces import write_traces

QUICKSTART = Path(__file__).resolve().parents[1] / "launch/configs/quickstart.toml"
# [steps][groups][completions] tokens; the first step warms up and is left out.
LENGTHS = [
    [[9, 9], [9, 9]],
    [[3, 3], [2, 2]],
    [[8, 8], [8, 8]],
    [[10, 1], [10, 1]],
    [[20, 1], [1, 1]],
]
NUM_TOKENS = [36, 10, 32, 22, 23]
# All four completions decode together: as many iterations as the longest has tokens.
TOGETHER = [9, 3, 8, 10, 20]
# One group at a time: the longest of the first, then the longest of the second.
IN_TURN = [18, 3 + 2, 8 + 8, 10 + 10, 20 + 1]


def write_run(run_dir, iterations, *options):
    """A run whose engine takes 0.1 s an iteration and 0.01 s a token, its learner 0.5 s and 0.02 s a token."""
    overrides = ["rollout.num_prompts=2", "rollout.group_size=2", "rollout.max_num_seqs=4", *options]
    run_dir.mkdir()
    (run_dir / "config.json").write_text(json.dumps(load_config(QUICKSTART, overrides).model_dump(mode="json")))
    lines = []
    for step, groups in enumerate(LENGTHS, start=1):
        scored = [scored_group(["a", "b"], [0.0, 1.0], group_id=i, num_tokens=group) for i, group in enumerate(groups)]
        write_traces(run_dir, step, scored, template="plain")
        tokens = NUM_TOKENS[step - 1]
        timings_s = {"sample": 0.1 * iterations[step - 1] + 0.01 * tokens, "score": 0.01, "write": 0.02}
        timings_s |= {"update": 0.5 + 0.02 * tokens, "publish": 0.03, "load": 0.04}
        if step == 1:
            timings_s = dict.fromkeys(timings_s, 100.0)
        metrics = {"num_loss_tokens": float(tokens)}
        lines.append({"kind": "step", "step": step, "policy_version": step, "metrics": metrics, "timings_s": timings_s})
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run_dir


@pytest.mark.slow
def test_a_runs_numbers_are_found_again(tmp_path):
    fit = fit_runs([write_run(tmp_path / "run", TOGETHER)])
    setting = fit.setting
    assert (setting.speed.iteration_s, setting.speed.sequence_s) == pytest.approx((0.1, 0.01))
    assert (setting.update_s, setting.update_token_s) == pytest.approx((0.5, 0.02))
    assert (setting.score_s, setting.sync_s) == pytest.approx((0.03, 0.07))
    assert (fit.engine_error, fit.update_error) == pytest.approx((0, 0), abs=1e-9)
    assert (setting.num_prompts, setting.group_size, setting.num_engines) == (2, 2, 1)
    assert fit.groups == [group for groups in LENGTHS[1:] for group in groups]


def test_the_lengths_of_a_run_are_those_of_all_its_steps(tmp_path):
    assert groups_of_run(write_run(tmp_path / "run", TOGETHER)) == [group for groups in LENGTHS for group in groups]


def test_several_runs_are_fitted_together_and_the_first_one_counts(tmp_path):
    one = write_run(tmp_path / "one", TOGETHER)
    other = write_run(tmp_path / "other", IN_TURN, "rollout.max_num_seqs=2")
    fit = fit_runs([one, other])
    assert (fit.setting.speed.iteration_s, fit.setting.speed.sequence_s) == pytest.approx((0.1, 0.01))
    assert (fit.setting.max_num_seqs, len(fit.groups)) == (4, 8)


def test_what_cannot_be_fitted_is_refused(tmp_path):
    two_workers = write_run(tmp_path / "two", TOGETHER, "rollout.num_workers=2")
    with pytest.raises(UserError, match=r"strict runs of one worker, .* has rollout.num_workers=2"):
        fit_runs([two_workers])
    assert fit_runs([two_workers], EngineSpeed(iteration_s=1.0, sequence_s=0.0)).setting.update_s == pytest.approx(0.5)
    with pytest.raises(UserError, match="nearly the same number of completions together"):
        fit_runs([steps_alike(tmp_path)])
    with pytest.raises(UserError, match=r"has no config\.json"):
        fit_runs([tmp_path])


def steps_alike(folder):
    """A run whose steps all have 4 completions of 5 tokens, but the seconds of those above."""
    run_dir = write_run(folder / "alike", TOGETHER)
    for step in range(1, 6):
        groups = [scored_group(["a", "b"], [0.0, 1.0], group_id=i, num_tokens=[5, 5]) for i in range(2)]
        write_traces(run_dir, step, groups, template="plain")
    return run_dir


def test_updates_of_steps_that_are_alike_are_taken_in_proportion_to_the_tokens(tmp_path):
    setting = fit_runs([steps_alike(tmp_path)], EngineSpeed(iteration_s=1.0, sequence_s=0.0)).setting
    # 0.5 + 0.02 x 21.75 = 0.935 s on average, for 20 tokens.
    assert (setting.update_s, setting.update_token_s) == (0, pytest.approx(0.935 / 20))


def test_a_run_is_measured_without_its_first_steps(tmp_path):
    measured = measured_run(write_run(tmp_path / "run", TOGETHER))
    # Steps 3 to 5: sample 0.1 x (8 + 10 + 20) + 0.01 x 77 = 4.57, update 1.5 + 1.54 = 3.04, the rest 3 x 0.1; 7.91 in all.
    assert measured.num_steps == 3
    assert (measured.step_s, measured.tokens_per_step) == pytest.approx((7.91 / 3, 77 / 3))
    assert (measured.tokens_per_s, measured.learner_idle_share) == pytest.approx((77 / 7.91, 1 - 3.04 / 7.91))


def run_command(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert ended.value.code == (2 if printed.err else 0)
    return printed


BY_HAND = (
    "--prompts 2 --group-size 2 --max-num-seqs 4 --iteration-s 1 --sequence-s 0 --median-tokens 10 --sigma 0 --max-tokens 99"
)


@pytest.mark.slow
def test_the_command_prints_and_writes_what_can_be_reckoned_by_hand(capsys, tmp_path):
    options = [*BY_HAND.split(), *"--update-s 4 --sync-s 2 --slice-s 0 --engines 1,2,...,4 --staleness 1,2".split()]
    shown = run_command(capsys, *options, "--json", tmp_path / "out.json", "--plot", tmp_path / "out.png").out
    rows = [re.split(r" {2,}", line.strip()) for line in shown.splitlines() if re.match(r" +\d+ ", line)]
    modes = ["strict", "k=1, drain", "k=1, in flight", "k=2, drain", "k=2, in flight"]
    assert [row[:3] for row in rows] == [[str(n), str(2 * n), mode] for n in (1, 2, 4) for mode in modes]
    # 10 s of sampling, 4 of update, 2 of sync; overlapped the update is hidden. 40 tokens a step from each engine.
    assert rows[0][3:] == ["16.00", "2", "1.00x", "75.0%", "37.5%", "62.5%", "0.00", "0"]
    assert rows[6][3:6] == ["12.00", "7", "1.33x"]
    tree = json.loads((tmp_path / "out.json").read_text())
    assert tree["numbers"]["speed"] == {"iteration_s": 1.0, "sequence_s": 0.0, "prefill_token_s": 0.0}
    assert [one["step_s"] for one in tree["predictions"][:2]] == [16, 12]
    assert matplotlib.image.imread(tmp_path / "out.png").shape[0] > 500


def test_a_run_is_predicted_from_another_and_not_from_itself(capsys, tmp_path):
    one = write_run(tmp_path / "one", TOGETHER)
    other = write_run(tmp_path / "other", IN_TURN, "rollout.max_num_seqs=2")
    shown = run_command(capsys, "--from-run", one, "--check", other).out
    assert "engine: 0.1 s + 0.01 s x completions an iteration" in shown
    assert "other: strict, 1 engine(s) of max_num_seqs 2, 2 prompts x 2; 3 steps measured" in shown
    predicted, measured, difference = re.search(r"step, s +([\d.]+) +([\d.]+) +([-+\d.]+)%", shown).groups()
    # Groups of steps 2 to 5 take 3, 2, 8, 8, 10, 10, 20, 1 iterations: 7.75 on average, two a step; 87 tokens in four steps.
    # 0.1 x 15.5 + 0.01 x 21.75 + 0.5 + 0.02 x 21.75 + 0.1 = 2.80, from 96 groups drawn at random: give or take 0.12.
    assert float(predicted) == pytest.approx(2.80, abs=0.36)
    # Steps 3 to 5: 0.1 x (16 + 20 + 21) + 0.03 x 77 + 3 x 0.6 = 9.81.
    assert float(measured) == 3.27
    assert float(difference) == pytest.approx(100 * (float(predicted) / float(measured) - 1), abs=0.5)
    assert "predicts a run from itself" in run_command(capsys, "--from-run", one, "--check", one).err
    assert "needs --from-run" in run_command(capsys, *BY_HAND.split(), "--update-s", 1, "--sync-s", 1, "--check", one).err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--prompts 3", "missing: --iteration-s and --sequence-s, or --throughput twice; --sync-s; --update-s or"),
        ("--iteration-s 1", "go together"),
        ("--iteration-s 0 --sequence-s 0", "must be above 0"),
        ("--throughput 1:60", "'--throughput': twice"),
        ("--throughput 1:60 --throughput x", "'x' is not completions:tokens/s"),
        (f"{BY_HAND} --update-s 1 --sync-s 1 --engines 1,...,8", "not a list of numbers"),
        (f"{BY_HAND} --update-s 1 --sync-s 1 --staleness 0", "not a list of numbers"),
        ("--prompts 1 --throughput 1:60 --throughput 9:90 --update-s 1 --sync-s 1 --max-tokens 9", "lengths: give"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(capsys, options, message):
    error = run_command(capsys, *options.split()).err
    assert message in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_the_help_explains_every_option_with_its_unit(capsys):
    shown = run_command(capsys, "--help").out
    options = [parameter for parameter in get_command(app).params if parameter.name != "help"]
    assert len(options) > 20
    for option in options:
        assert option.opts[0] in shown
        assert len(option.help) > 10, option.opts
        if option.name.endswith("_s"):
            assert re.search("[Ss]econds|a second", option.help), option.opts


def test_the_simulator_hands_out_with_the_pools_own_scheduler(capsys, monkeypatch):
    asked = []
    original = GroupScheduler.hand_out
    monkeypatch.setattr(GroupScheduler, "hand_out", lambda self: asked.append(1) or original(self))
    run_command(capsys, *BY_HAND.split(), "--update-s", 1, "--sync-s", 1, "--engines", 1)
    assert asked


def test_workers_look_up_as_often_as_the_pools():
    assert SLICE_S == rollout_pool.SLICE_S
