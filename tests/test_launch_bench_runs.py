"""The two benchmarks that start Ray: what they add up, by hand, and that their commands run."""

import re

import pytest
from tiny import MODEL, engine_options, prompt_batch

from launch import bench_driver, bench_sync, bench_traces
from launch.instant_engine import VOCABULARY, InstantEngine
from r1.rollout.engine import generate


def test_a_phase_ends_where_the_next_one_begins():
    calls = [("receive_weights", 10.0), ("load_weights", 10.5), ("reset_prefix_cache", 12.0), ("verify_weights", 12.25)]
    assert bench_sync.seconds_by_phase(calls, 13.0) == {"transfer": 0.5, "load": 1.5, "reset cache": 0.25, "verify": 0.75}
    assert bench_sync.seconds_by_phase(calls[:3], 13.0) == {"transfer": 0.5, "load": 1.5, "reset cache": 1.0}


def test_what_verification_adds(capsys):
    syncs = {
        "on": [{"publish": 1.0, "all": 6.0}, {"publish": 2.0, "all": 2.2}, {"publish": 3.0, "all": 4.4}],
        "off": [{"publish": 1.0, "all": 2.0}, {"publish": 1.0, "all": 4.0}, {"publish": 1.0, "all": 8.0}],
    }
    bench_sync.print_table(syncs)
    shown = capsys.readouterr().out
    assert re.search(r"^publish +2\.000 +1\.000 +1\.000 +1\.000$", shown, re.MULTILINE)
    assert "verification adds 10.0% to the median, 10.0% to the fastest" in shown


def test_the_drivers_speed_is_that_of_all_parts(capsys):
    # 4 completions: 0.5 s in the fastest step is 8 a second, 8 in 2.0 s are 4 a second.
    bench_driver.print_table([dict.fromkeys(bench_driver.PARTS, 0.1), dict.fromkeys(bench_driver.PARTS, 0.3)], 4)
    assert re.search(r"^completions/s +8 +4$", capsys.readouterr().out, re.MULTILINE)


def test_the_instant_engine_returns_what_a_real_one_might():
    groups = generate(InstantEngine(engine_options()), prompt_batch(["a", "b"], group_size=3))
    completions = [completion for group in groups for completion in group.completions]
    assert [(c.group_id, c.sample_id) for c in completions] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert all(10 <= len(c.token_ids) <= 32 and max(c.token_ids) < VOCABULARY for c in completions)  # of 32 at most
    assert len({c.token_ids for c in completions}) == 6


@pytest.mark.slow
def test_the_trace_benchmark_measures_every_command(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["bench_traces", "--completions", "192", "--steps", "2", "--run", str(tmp_path / "run")])
    bench_traces.main()
    shown = capsys.readouterr().out
    assert "192 completions, " in shown
    parts = [float(size) for size in re.findall(r"(?:numbers|ids|logprobs|entropies) ([\d.]+)", shown)]
    assert sum(parts) == pytest.approx(float(re.search(r"1,000 tokens: ([\d.]+)", shown)[1]), abs=0.05)
    assert len(re.findall(r"^r1 traces .* s +\d+ MiB$", shown, re.MULTILINE)) == len(bench_traces.COMMANDS)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.beside
@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (bench_sync, ["--model", str(MODEL), "--dtype", "float32", "--threads", "1", "--repeats", "1"]),
        (bench_driver, ["--prompts", "3", "--steps", "1", "--tokens", "30"]),
    ],
)
def test_the_command_prints_its_table(capsys, monkeypatch, command, arguments):
    monkeypatch.setattr("sys.argv", [command.__name__, *arguments])
    command.main()
    shown = capsys.readouterr().out
    parts = bench_driver.PARTS if command is bench_driver else ("publish", *bench_sync.PHASES.values())
    for part in parts:
        assert float(re.search(rf"^{part} +([\d.]+)", shown, re.MULTILINE)[1]) >= 0, shown
