"""`python tools/first_picture.py`: docs/figures/first-look.png, the picture at the head of README.

One test photo, the same with a wrong class written on it, the same under attack, and what the untouched model and the
tuned ones answer. Nothing is drawn by hand: another photo is another argument.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_tensor

import seaanchor as sa
from seaanchor.encoders.encoder import LoadedModel

ROOT = Path(__file__).resolve().parents[1]
PHOTO, WORD, SEED, BOUND = "cougar/00.jpg", "soccer ball", 1, 1 / 255
MODELS = {"before": "seaanchor-lite", "words": "seaanchor-lite-dpo", "noise": "seaanchor-lite-lore"}
CALLED = {"before": "CLIP", "words": "aligned", "noise": "hardened"}
INK, PALE, RIGHT, WRONG = "#24292f", "#59636e", "#1a7f37", "#c02b2b"  # on white, whatever the page's own colour
SHOWN_TIMES = 60  # of the change, which nobody would see


@dataclass(frozen=True)
class Classifier:
    """Pixels (B, 3, H, W) in [0, 1] → class logits (B, C)."""

    model: LoadedModel
    head: sa.Head

    def __call__(self, pixels_BCHW: Tensor) -> Tensor:
        return self.head(self.model.encoder(pixels_BCHW))


def classifiers(names: tuple[str, ...]) -> dict[str, Classifier]:
    """The untouched model, the one aligned against words and the one hardened against attacks."""
    found = {}
    for part, name in MODELS.items():
        model = sa.load_model(name)
        model.encoder.eval()
        found[part] = Classifier(model, sa.build_head(model, names, ("a photo of a {}.",)))
    return found


def square(photo: Image.Image, side: int) -> Image.Image:
    """The middle of a photo at the model's size."""
    edge = min(photo.size)
    left, top = (photo.width - edge) // 2, (photo.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    return photo.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box=box)


def draw(output: Path) -> list[str]:
    """Write the picture; returns its answers as lines."""
    from matplotlib.figure import Figure

    matplotlib.rcParams["text.parse_math"] = False
    photos = ROOT / "src/seaanchor/zoo/data/photos/test"
    names, true = tuple(sorted(path.name for path in photos.iterdir())), PHOTO.split("/")[0]
    judges = classifiers(names)
    side = judges["before"].model.encoder.image_size
    clean_1CHW = to_tensor(square(Image.open(photos / PHOTO), side))[None]
    worded_1CHW = sa.attacks.typographic(clean_1CHW[0], word=WORD, seed=SEED, size=0.3)[None]
    label_1 = torch.tensor([names.index(true)])
    attacked = {
        part: sa.attacks.APGD(epsilon=BOUND, num_steps=50)(judges[part], clean_1CHW, label_1)
        for part in ("before", "noise")
    }
    change = (attacked["before"] - clean_1CHW) * SHOWN_TIMES / 2 + 0.5
    columns = (
        ("a photo", clean_1CHW, [(who, part, clean_1CHW) for part, who in CALLED.items()]),
        (f"with “{WORD}” on it", worded_1CHW, [(CALLED[part], part, worded_1CHW) for part in ("before", "words")]),
        ("each pixel changed by at most 1/255", attacked["before"], [(CALLED[p], p, x) for p, x in attacked.items()]),
        (f"that change, {SHOWN_TIMES} times as strong", change, []),
    )
    figure = Figure(figsize=(11, 3.55), dpi=120, facecolor="white")
    lines = []
    for number, (title, shown_1CHW, asked) in enumerate(columns):
        axes = figure.add_axes((0.005 + number * 0.25, 0.235, 0.24, 0.69))
        axes.imshow(shown_1CHW[0].permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="bicubic")
        axes.set_axis_off()
        axes.set_title(title, fontsize=10.5, color=INK, pad=5)
        for row, (who, part, seen_1CHW) in enumerate(asked):
            share_C = judges[part](seen_1CHW).detach().softmax(-1)[0]
            best = int(share_C.argmax())
            right = names[best] == true
            answer = f"{names[best]} {100 * share_C[best]:.0f} %"
            lines.append(f"{title}; {who}: {answer}")
            place = {"transform": axes.transAxes, "va": "top", "fontsize": 11}
            axes.text(0.02, -0.04 - 0.105 * row, who, color=PALE, **place)
            axes.text(
                0.4,
                -0.04 - 0.105 * row,
                f"{'✓' if right else '✗'} {answer}",
                color=RIGHT if right else WRONG,
                weight="bold",
                **place,
            )
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, facecolor="white")
    return lines


if __name__ == "__main__":
    torch.manual_seed(0)
    print("\n".join(draw(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/figures/first-look.png")))
