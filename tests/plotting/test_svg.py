"""The charts of a report: one SVG image each, in colours of the palette, without a background."""

import base64
import re
from xml.etree import ElementTree

import pytest

from seaanchor.plotting.palette import COLOURS, MARKERS, NEUTRAL
from seaanchor.plotting.svg import plot, swatch

TITLE = "{http://www.w3.org/2000/svg}title"


def drawn(described: str) -> tuple[str, str]:
    """Address and SVG source of a small chart."""
    with plot(described) as (axes, done):
        axes.plot([0, 1], [0, 1], color=COLOURS[0])
        axes.set(xlabel="step & more", ylabel="loss, $")
    (chart,) = done
    assert chart.described == described
    kind, _, data = chart.address.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return chart.address, base64.b64decode(data).decode()


def test_a_chart_uses_the_palette_alone_and_has_no_background():
    _, svg = drawn("A line")
    styled = set(re.findall(r"(?:fill|stroke): (#\w+)", svg))
    assert styled == {COLOURS[0], NEUTRAL}
    assert "opacity: 0" in svg or "fill: none" in svg
    assert "fill: #ffffff" not in svg


def test_a_chart_is_well_formed_and_keeps_its_words_as_text():
    _, svg = drawn('Loss < 1 & "more"')
    root = ElementTree.fromstring(svg)
    assert root.find(TITLE).text == 'Loss < 1 & "more"'
    words = "".join(root.itertext())
    assert "step & more" in words and "loss, $" in words and "system-ui" in words


def test_the_same_chart_has_the_same_bytes():
    assert drawn("A line")[0] == drawn("A line")[0]


@pytest.mark.parametrize("number", [None, *range(len(MARKERS) + 3)])
def test_swatches_have_the_colour_of_their_series(number):
    expected = NEUTRAL if number is None else COLOURS[number % len(COLOURS)]
    for kind, dash in (("marker", "-"), ("line", "--"), ("line", ":"), ("line", "-.")):
        root = ElementTree.fromstring(swatch(number, kind, dash))
        assert root.get("aria-hidden") == "true" and expected in (root[0].get("fill"), root[0].get("stroke"))
