"""The palette reads on the light and the dark page of a report, by WCAG's contrast and Machado's model of vision."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from seaanchor.plotting.palette import COLOURS, MARKERS, NEUTRAL, colour, marker

CSS = (files("seaanchor.report") / "templates" / "page.css").read_text()
BACKGROUNDS = ["#ffffff", *re.findall(r"--(?:page|panel): (#\w{6})", CSS)]
LEAST_CONTRAST = 3.0  # WCAG 2.1, success criterion 1.4.11
APART = 0.055  # distance in Oklab; 0.02 is just visible between large areas side by side

# Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB
VISION = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
LMS = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]])
OKLAB = np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])


def linear(text: str) -> np.ndarray:
    """Linear RGB in [0, 1] of a hexadecimal colour."""
    value_3 = np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value_3 <= 0.04045, value_3 / 12.92, ((value_3 + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours."""
    low, high = sorted(float(linear(text) @ [0.2126, 0.7152, 0.0722]) + 0.05 for text in (one, other))
    return high / low


def seen(text: str, vision: str) -> np.ndarray:
    """Oklab coordinates of a colour as someone with that vision sees it."""
    return OKLAB @ np.cbrt(LMS @ np.clip(np.array(VISION[vision]) @ linear(text), 0, 1))


def test_contrast_of_known_colours():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_the_page_has_a_light_and_a_dark_background():
    luminance = [linear(text).mean() for text in BACKGROUNDS]
    assert min(luminance) < 0.02 and max(luminance) == 1


@pytest.mark.parametrize("background", sorted(set(BACKGROUNDS)))
@pytest.mark.parametrize("ink", [NEUTRAL, *COLOURS])
def test_every_colour_reads_on_every_background(ink, background):
    assert contrast(ink, background) >= LEAST_CONTRAST


@pytest.mark.parametrize("vision", VISION)
def test_the_first_five_colours_differ_for_colour_blind_readers(vision):
    for one, other in combinations(COLOURS[:5], 2):
        assert np.linalg.norm(seen(one, vision) - seen(other, vision)) > APART, (one, other)


def test_colours_and_markers_repeat_out_of_step():
    """Colour and marker together name a series beyond the number of either."""
    looks = {(colour(i), marker(i)) for i in range(40)}
    assert len(looks) == 40 and len(set(COLOURS)) == len(COLOURS) and len(set(MARKERS)) == len(MARKERS)
    assert colour(None) == NEUTRAL
