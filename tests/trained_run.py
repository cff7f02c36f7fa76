"""One short run of the quickstart for all tests that want to look at one: real Ray, real vLLM."""

from pathlib import Path

import pytest
from processes import shared_memory_files
from rich.console import Console
from tiny import tiny_config

NUM_STEPS = 16


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from r1.runtime.run import run  # ray: not for every test that is collected

    run_dir, shared_before = tmp_path_factory.mktemp("trained") / "run", shared_memory_files()
    options = (f"run_dir={run_dir}", f"num_steps={NUM_STEPS}", "evaluate.num_completions=256", "checkpoint.every=0")
    run(tiny_config(*options), console=Console(quiet=True))
    assert shared_memory_files() == shared_before
    return run_dir
