"""Made-up scenes with exact masks: emoji laid on smooth colours, a segmentation set that needs nothing downloaded.

Legend: S side of a scene in pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.numbers import check_seed
from seaanchor.utils.staging import staged

EMOJI = Path(str(files("seaanchor"))) / "zoo" / "data" / "emoji"
GROUPS = {
    "animal": """ant bat bear beaver bird butterfly camel cat chicken cow crab crocodile deer dog dolphin duck elephant
    fish flamingo fox frog giraffe goat gorilla hedgehog horse kangaroo koala lion llama lobster monkey mouse octopus
    owl panda parrot peacock penguin pig rabbit scorpion shark sheep snail snake spider squid tiger turtle whale wolf
    zebra""",
    "food": """apple avocado banana bread broccoli carrot cherries corn grapes hamburger lemon mushroom pear pineapple
    pizza strawberry tomato watermelon""",
    "vehicle": "airplane bicycle bus car helicopter motorcycle rocket sailboat ship tractor train truck",
    "thing": """bed bell camera chair clock crown door glasses guitar hammer key laptop piano scissors telephone
    umbrella violin""",
}
"""Classes of the scenes, with the emoji that belong to them."""
CLASS_NAMES = ("background", *GROUPS)
SPLITS = {"train": "train", "test": "test"}  # Noto's drawings, and Fluent's
OUTSIDE = 90  # summed difference to white of the 255ths of three channels below which a pixel at the rim is outside
SMALLEST, LARGEST = 0.3, 0.65  # side of an emoji as a share of the scene's


@dataclass(frozen=True)
class Drawing:
    """An emoji cut out: pixels uint8 (64, 64, 3), where it is (64, 64), and its class number in a scene."""

    pixels: np.ndarray
    inside: np.ndarray
    label: int


def write_scenes(output: Path, train: int = 400, test: int = 200, image_size: int = 128, seed: int = 0) -> None:
    """Write scenes as a folder that `seaanchor.data.masks.open_segmented` reads: `images` and `masks` of the splits
    `train` and `test`, and `classnames.txt`.

    A scene has one to three emoji at random places, sizes and either way round. Each pixel is an emoji's or the
    background's and nothing between, so that masks are exact. Train shows the drawings of one set (Noto), test those of
    another (Fluent): the objects are disjoint.

    Args:
        output: new or empty folder.
        train, test: scenes of each split.
        image_size: S.
        seed: of everything that is drawn; a scene depends on it, on its split and on its number.

    Raises:
        SeaAnchorError: numbers out of range, a folder in use, or one that cannot be written.
    """
    check_seed(seed)
    if min(train, test) < 1 or image_size < 32:
        found = f"{train} and {test} scenes of {image_size} pixels"
        raise SeaAnchorError(found, "at least one scene in each split, of 32 pixels or more", "correct the numbers")
    with staged(output) as folder:
        for part, (split, count) in enumerate((("train", train), ("test", test))):
            for kind in ("images", "masks"):
                (folder / kind / split).mkdir(parents=True)
            drawings = cut_out(SPLITS[split])
            for number in range(count):
                pixels, mask = scene(drawings, image_size, np.random.default_rng([seed, part, number]))
                Image.fromarray(pixels).save(folder / "images" / split / f"{number:05d}.png")
                Image.fromarray(mask).save(folder / "masks" / split / f"{number:05d}.png")
        (folder / "classnames.txt").write_text("\n".join(CLASS_NAMES) + "\n", encoding="utf-8")


@cache
def cut_out(split: str) -> tuple[Drawing, ...]:
    """The emoji of a split without the white that reaches their rim."""
    return tuple(_cut_out(split))


def _cut_out(split: str) -> Iterator[Drawing]:
    for label, (_, names) in enumerate(GROUPS.items(), start=1):
        for name in names.split():
            for file in sorted((EMOJI / split / name).glob("*.png")):
                with Image.open(file) as picture:
                    pixels = picture.convert("RGB")
                filled = pixels.copy()
                marker = (255, 0, 255)
                for corner in ((0, 0), (pixels.width - 1, 0), (0, pixels.height - 1), (63, 63)):
                    ImageDraw.floodfill(filled, corner, marker, thresh=OUTSIDE)
                inside = ~(np.asarray(filled) == marker).all(-1)
                yield Drawing(np.asarray(pixels), inside, label)


def scene(drawings: Sequence[Drawing], image_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One scene: pixels uint8 (S, S, 3) and class numbers uint8 (S, S); what is drawn later lies on top."""
    pixels, mask = background(image_size, rng), np.zeros((image_size, image_size), np.uint8)
    by_class = [[drawing for drawing in drawings if drawing.label == label] for label in range(1, len(CLASS_NAMES))]
    for _ in range(rng.integers(1, 4)):
        chosen = by_class[rng.integers(len(by_class))]
        drawing = chosen[rng.integers(len(chosen))]
        side = int(image_size * rng.uniform(SMALLEST, LARGEST))
        top, left = (int(x) for x in rng.integers(0, image_size - side + 1, 2))
        shown = Image.fromarray(drawing.pixels).resize((side, side), Image.Resampling.BICUBIC)
        where = Image.fromarray(drawing.inside).resize((side, side), Image.Resampling.NEAREST)
        part, inside = np.asarray(shown), np.asarray(where)
        if rng.random() < 0.5:
            part, inside = part[:, ::-1], inside[:, ::-1]
        pixels[top : top + side, left : left + side][inside] = part[inside]
        mask[top : top + side, left : left + side][inside] = drawing.label
    return pixels, mask


def background(image_size: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth colours: noise of a few cells, enlarged, with a little grain."""
    cells = int(rng.integers(2, 7))
    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((image_size, image_size), Image.Resampling.BICUBIC), np.float32)
    grain = rng.normal(0, rng.uniform(0, 8), smooth.shape)
    return (smooth + grain).clip(0, 255).astype(np.uint8)
