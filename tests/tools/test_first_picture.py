"""README's first picture shows what its description says."""

from pathlib import Path

import pytest
from PIL import Image

from tools.first_picture import ROOT, draw


@pytest.mark.exhaustive  # nothing that other tests see but the choice of the photo
def test_the_answers_are_those_that_readme_tells(tmp_path: Path):
    lines = draw(tmp_path / "deep" / "picture.png")
    answers = {tuple(line.rsplit(" ", 2)[0].split("; ")) for line in lines}
    photo, word, noise = "a photo", "with “soccer ball” on it", "each pixel changed by at most 1/255"
    wanted = {(photo, f"{who}: cougar") for who in ("CLIP", "aligned", "hardened")}
    wanted |= {(word, "CLIP: soccer ball"), (word, "aligned: cougar")}
    wanted |= {(noise, "CLIP: kangaroo"), (noise, "hardened: cougar")}
    assert answers == wanted
    drawn, kept = Image.open(tmp_path / "deep" / "picture.png"), Image.open(ROOT / "docs/figures/first-look.png")
    assert drawn.size == kept.size
