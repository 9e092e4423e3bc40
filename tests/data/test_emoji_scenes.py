"""Made-up scenes: their masks say exactly where an emoji lies, and they depend on the seed alone."""

import numpy as np
import pytest
from PIL import Image

from seaanchor.data.emoji_scenes import CLASS_NAMES, EMOJI, GROUPS, Drawing, background, cut_out, scene, write_scenes
from seaanchor.data.masks import open_segmented, read_mask
from seaanchor.errors import SeaAnchorError


def test_every_emoji_has_one_class():
    named = [name for names in GROUPS.values() for name in names.split()]
    assert sorted(named) == sorted(path.name for path in (EMOJI / "train").iterdir())
    assert len(set(named)) == 100


def test_what_is_cut_out_is_the_drawing_and_not_the_white_around_it():
    for split in ("train", "test"):
        drawings = cut_out(split)
        assert len(drawings) == 100
        shares = [drawing.inside.mean() for drawing in drawings]
        assert min(shares) > 0.05 and max(shares) < 0.95
        outside = np.concatenate([drawing.pixels[~drawing.inside] for drawing in drawings])
        assert (np.abs(255 - outside.astype(int)).sum(-1) <= 90).all()


def test_the_mask_is_exact():
    """A pixel is of the drawing where the mask says so, and as it was before elsewhere: seen with a drawing of one
    colour that no background has."""
    inside = np.zeros((64, 64), bool)
    inside[8:40, 16:50] = True
    colour = np.full((64, 64, 3), (1, 254, 7), np.uint8)
    drawings = [Drawing(colour, inside, label) for label in range(1, len(CLASS_NAMES))]
    for seed in range(5):
        pixels, mask = scene(drawings, 96, np.random.default_rng(seed))
        plain = background(96, np.random.default_rng(seed))  # the first thing that is drawn
        assert ((pixels == (1, 254, 7)).all(-1) == (mask > 0)).all() and (mask > 0).any()
        assert (pixels[mask == 0] == plain[mask == 0]).all()


def test_a_written_set_is_read_as_images_with_masks(tmp_path, run):
    code, out, err = run(
        "data", "emoji-scenes", "--output", tmp_path / "a", "--train", 3, "--test", 2, "--image-size", 48
    )
    assert code == 0 and "3 and 2 scenes of 5 classes" in out, err
    for split, count in (("train", 3), ("test", 2)):
        images = open_segmented(tmp_path / "a", split=split)
        assert len(images.paths) == count and images.class_names == CLASS_NAMES
        mask = read_mask(images, 0, 48)
        assert mask.shape == (48, 48) and set(mask.unique().tolist()) <= set(range(5)) and (mask > 0).any()
    write_scenes(tmp_path / "b", 4, 2, 48)
    write_scenes(tmp_path / "c", 3, 2, 48, seed=1)
    for kind in ("images", "masks"):
        one, same, other = (np.asarray(Image.open(tmp_path / x / kind / "train" / "00002.png")) for x in "abc")
        assert (one == same).all() and (one != other).any()


def test_bad_settings(tmp_path):
    with pytest.raises(SeaAnchorError, match="at least one scene"):
        write_scenes(tmp_path / "a", 0, 1)
    with pytest.raises(SeaAnchorError, match="32 pixels or more"):
        write_scenes(tmp_path / "a", 1, 1, 16)
    (tmp_path / "x").write_text("")
    with pytest.raises(SeaAnchorError, match="is not empty"):
        write_scenes(tmp_path, 1, 1)
