"""Whether the run colours can be told apart, with every kind of eyes."""

import itertools
import re
from importlib.resources import files

import numpy as np
import pytest

CSS = files("r1.report").joinpath("assets/report.css").read_text(encoding="utf-8")

# Machado, Oliveira, Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency", severity 1.0,
# for linear RGB.
EYES = {
    "all cones": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color):
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE 1976 L*a*b* under D65."""
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def colours(name, scheme):
    return [pair[scheme == "dark"] for pair in re.findall(rf"--{name}: light-dark\((#\w+), (#\w+)\);", CSS)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("eyes", EYES)
def test_any_two_runs_are_told_apart(scheme, eyes):
    seen = [lab(np.array(EYES[eyes]) @ linear(color)) for color in colours(r"run-\d", scheme)]

    assert len(seen) == 8
    # A difference of 2 is just noticeable side by side; thin lines need many times that.
    assert min(np.linalg.norm(first - second) for first, second in itertools.combinations(seen, 2)) > 24.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "ratio"), [(r"run-\d", 3.0), ("bound", 3.0), ("text", 7.0), ("muted", 4.5), ("bad", 4.5), ("accent", 4.5)])
def test_what_is_drawn_and_written_stands_out_from_its_card(scheme, name, ratio):
    (card,) = colours("card", scheme)

    def luminance(color):
        return TO_XYZ[1] @ linear(color)

    for color in colours(name, scheme):
        # WCAG 2.2: 3 : 1 for graphics, 4.5 : 1 for text
        dark, light = sorted([luminance(color), luminance(card)])
        assert (light + 0.05) / (dark + 0.05) >= ratio
