"""The trace files as other programs read them: the examples of docs/traces.md."""

import re
from pathlib import Path

import pytest
from scored_groups import scored_group

from r1.trace_schema import COLUMNS
from r1.traces import write_traces

pytestmark = pytest.mark.slow  # datasets and pandas take seconds to import

DOCS = Path(__file__).parents[1] / "docs" / "traces.md"


@pytest.fixture
def run(tmp_path):
    for step in (1, 2):
        group = scored_group(
            ["a", "<answer>19</answer>"],
            [None, float(step)],
            breakdowns=[{"accuracy": None, "reasoning_format": 0.0}, {"accuracy": 1.0, "reasoning_format": 0.5}],
            errors=["accuracy: late", None],
        )
        write_traces(tmp_path, step, [group], template="plain")
    write_traces(tmp_path, 2, [scored_group(["b"], [0.0])], template="plain", split="heldout")
    (tmp_path / "traces" / ".step-000003.parquet.tmp").write_bytes(b"half")  # what a run that is killed may leave
    return tmp_path


def test_every_column_is_documented():
    rows = re.findall(r"^\| ([`a-z_, ]+) \|", DOCS.read_text(encoding="utf-8").partition("## Columns")[2].partition("\n## ")[0], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert named == list(COLUMNS)


def example(title, run):
    """The Python block under a heading of the docs, with its RUN in place."""
    section = DOCS.read_text(encoding="utf-8").partition(f"### {title}\n")[2]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1].replace("RUN", str(run))


def run_example(title, run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    names = {}
    exec(example(title, run), names)
    return names


def test_datasets(run, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    names = run_example("datasets", run, tmp_path, monkeypatch)
    assert [row["reward"] for row in names["completions"]] == [None, 1.0, None, 2.0]
    assert names["completions"][1]["breakdown"] == [
        {"name": "accuracy", "value": 1.0},
        {"name": "reasoning_format", "value": 0.5},
    ]
    assert [row["step"] for row in names["right"]] == [1, 2]


def test_pandas(run, tmp_path, monkeypatch):
    names = run_example("pandas", run, tmp_path, monkeypatch)
    assert names["means"].to_dict() == {1: 1.0, 2: 2.0}
    assert names["accuracy"].dropna().tolist() == [1.0, 1.0]


def test_duckdb(run, tmp_path, monkeypatch):
    pytest.importorskip("duckdb")
    names = run_example("DuckDB", run, tmp_path, monkeypatch)
    assert names["by_step"] == [(1, 2, 1.0, 1.0), (2, 2, 2.0, 1.0)]
