"""Who may import whom (docs: CONTRIBUTING.md), read from the source and checked in fresh processes."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("rewards", "tasks", "r1", "launch")  # each may import itself and what stands left of it
HEAVY = {"torch", "ray", "vllm", "transformers", "peft"}

# Where the heavy packages may be imported at all, at any level of a file.
ALLOWED = {
    "ray": ("r1/runtime/",),
    "vllm": ("r1/rollout/vllm_",),
    "peft": ("r1/lora.py",),
}
# These may not import any heavy package when they are imported themselves.
LIGHT = [
    "rewards",
    "tasks",
    "launch.train",
    "launch.submit",
    "launch.evaluate",
    "r1.types",
    "r1.config",
    "r1.prompts",
    "r1.scoring",
    "r1.scoring_child",
    "r1.scoring_rules",
    "r1.traces",
    "r1.trace_export",
    "r1.trace_flags",
    "r1.trace_problems",
    "r1.trace_search",
    "r1.trace_stats",
    "r1.doctor.checks",
    "r1.doctor.cluster_checks",
    "r1.doctor.diagnosis",
    "r1.doctor.facts",
    "r1.doctor.reach",
    "r1.evaluation.forcing",
    "r1.evaluation.majority",
    "r1.evaluation.metrics",
    "r1.evaluation.model",
    "r1.evaluation.problems",
    "r1.evaluation.progress",
    "r1.evaluation.report",
    "r1.evaluation.samples",
    "r1.evaluation.settings",
    "r1.metrics",
    "r1.console",
    "r1.step_warnings",
    "r1.summary",
    "r1.checkpoint",
    "r1.run_choice",
    "r1.browse.app",
    "r1.cli.main",
    "r1.cli.browse",
    "r1.cli.traces",
    "r1.cli.rewards",
    "r1.cli.tasks",
    "r1.cli.config",
    "r1.cli.doctor",
    "r1.cli.report",
    "r1.report.page",
    "r1.report.server",
    "r1.config_text",
    "r1.seeds",
    "r1.step_metrics",
    "r1.simulate",
    "r1.simulation",
    "r1.simulation_plot",
    "r1.weight_transport",
    "r1.storage",
    "r1.run_place",
    "r1.mirror_pass",
    "r1.run_mirror",
    "r1.node_scratch",
    "r1.fetched_run",
]


def sources():
    return [path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]


@cache
def imported_packages(path):
    """The top-level packages that a file imports, at any level; each file is parsed once for all tests."""
    return tuple(_imported_packages(path))


def _imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module.split(".")[0]


def test_packages_import_only_to_the_left():
    for path in sources():
        mine = path.relative_to(ROOT).parts[0]
        allowed = OURS[: OURS.index(mine) + 1]
        wrong = {package for package in imported_packages(path) if package in OURS and package not in allowed}
        assert not wrong, f"{path} imports {wrong}"


@pytest.mark.parametrize("package", ALLOWED)
def test_ray_vllm_and_peft_stay_in_their_rooms(package):
    places = [str(path.relative_to(ROOT)) for path in sources() if package in imported_packages(path)]
    assert places, f"nothing imports {package}: is this test looking in the right place?"
    assert all(place.startswith(ALLOWED[package]) for place in places), places


@pytest.mark.parametrize("package", ["rewards", "tasks"])
def test_rewards_and_tasks_import_nothing_heavy_anywhere(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        assert not HEAVY & set(imported_packages(path)), path


def test_the_light_modules_load_nothing_heavy():
    code = f"import sys\nfor m in {LIGHT}: __import__(m)\nprint(sorted({HEAVY} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_module_is_named_like_one_of_the_standard_library():
    # `python -m launch.train` puts the top-level folders on the path: a tasks/types.py would be found by accident.
    top_level = {path.name for path in ROOT.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert not top_level & set(sys.stdlib_module_names)
