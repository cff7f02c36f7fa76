import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from r1.curves import draw_curves, smooth
from r1.errors import UserError


def write_metrics(run_dir: Path, events: Iterable[tuple[str, int, dict[str, Any]]]) -> None:
    lines = [json.dumps({"kind": kind, "step": step, "metrics": metrics, "timings_s": {}}) + "\n" for kind, step, metrics in events]
    (run_dir / "metrics.jsonl").write_text("".join(lines))


def num_pixels_of(path: Path, red: int, green: int, blue: int) -> int:
    pixels = (matplotlib.image.imread(path)[:, :, :3] * 255).round().astype(int)
    return int((pixels == (red, green, blue)).all(axis=2).sum())


TRAINING = [("step", step, {"accuracy": step / 10, "reward": step / 10, "completion_tokens": 40.0}) for step in range(1, 11)]


@pytest.mark.slow
def test_the_figure_shows_the_training_line(tmp_path: Path):
    write_metrics(tmp_path, TRAINING)

    path = draw_curves(tmp_path)

    assert path == tmp_path / "curves.png"
    assert num_pixels_of(path, 0x1F, 0x5F, 0xA8) > 1000
    assert num_pixels_of(path, 0xD1, 0x49, 0x5B) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", "metrics.jsonl"]


@pytest.mark.slow
def test_the_figure_shows_the_heldout_points(tmp_path: Path):
    write_metrics(tmp_path, [*TRAINING, ("heldout", 10, {"accuracy": 1.0})])

    assert num_pixels_of(draw_curves(tmp_path), 0xD1, 0x49, 0x5B) > 50


@pytest.mark.slow
@pytest.mark.parametrize(
    "events",
    [
        [("step", 1, {"accuracy": 0.5})],
        [("heldout", 0, {"accuracy": 0.5})],
        [("step", 1, {"reward": None}), ("step", 2, {"reward": 0.5}), ("step", 3, {})],  # null stands for NaN
    ],
)
def test_the_shortest_runs_can_be_drawn(tmp_path: Path, events: list[tuple[str, int, dict[str, Any]]]):
    write_metrics(tmp_path, events)

    assert draw_curves(tmp_path).stat().st_size > 10_000


def test_a_run_without_metrics_is_a_user_error(tmp_path: Path):
    with pytest.raises(UserError, match=r"has no metrics\.jsonl"):
        draw_curves(tmp_path)
    write_metrics(tmp_path, [])
    with pytest.raises(UserError, match="holds no finished step"):
        draw_curves(tmp_path)


def test_smoothing_takes_the_mean_of_the_neighbours():
    # (0+3)/2, (0+3+6)/3, (3+6+0)/3, (6+0)/2
    assert smooth([0.0, 3.0, 6.0, 0.0], window=3) == [1.5, 3.0, 3.0, 3.0]
    assert smooth([0.0, 3.0], window=1) == [0.0, 3.0]
    assert smooth([], window=3) == []
