"""Build the embedded image sets and the emoji art that pre-training reads. Deterministic; run once, its output is
committed.

python tools/build_data.py photos --caltech101 .../101_ObjectCategories --out src/seaanchor/zoo/data
python tools/build_data.py photos-mini --caltech101 .../101_ObjectCategories --out src/seaanchor/zoo/data
python tools/build_data.py emoji --noto .../icons.json --fluent .../icons.json --annotations .../annotations.json --out
src/seaanchor/zoo/data
python tools/build_data.py words --annotations .../annotations.json --out src/seaanchor/zoo/data
python tools/build_data.py pretraining-art --noto .../icons.json --out DIR

Needs `resvg-py` for the emoji. Caltech-101 comes from its authors or any mirror; the icon files are
`@iconify-json/noto` and `@iconify-json/fluent-emoji-flat`, the annotations `cldr-annotations-full` (English).
"""

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from seaanchor.utils.log import log_to_terminal

sys.path.insert(0, str(Path(__file__).parents[1]))  # the root of the clone, which holds the package `tools`
from tools.pretraining.caltech import EMBEDDED_CLASSES, class_name, split_files, three_parts

SIZE = 64  # pixels of photos-mini, emoji and emoji-people
SHORTER = 160  # pixels of the shorter side of photos
TWIN = 4.0  # grey levels: copies lie below 2.3, different pictures above 6.3

# One hundred nameable things drawn in both Noto and Fluent style.
EMOJI_CLASSES = """
ant bat bear beaver bird butterfly camel cat chicken cow crab crocodile deer dog dolphin duck elephant fish
flamingo fox frog giraffe goat gorilla hedgehog horse kangaroo koala lion llama lobster monkey mouse octopus
owl panda parrot peacock penguin pig rabbit scorpion shark sheep snail snake spider squid tiger turtle whale
wolf zebra apple avocado banana bread broccoli carrot cherries corn grapes hamburger lemon mushroom pear
pineapple pizza strawberry tomato watermelon airplane bicycle bus car helicopter motorcycle rocket sailboat
ship tractor train truck bed bell camera chair clock crown door glasses guitar hammer key laptop piano
scissors telephone umbrella violin
""".split()  # noqa: SIM905
ICON_OF = {
    "apple": "red-apple",
    "corn": "ear-of-corn",
    "sheep": "ewe",
    "whale": "spouting-whale",
    "car": "automobile",
    "truck": "delivery-truck",
    "train": "locomotive",
    "clock": "mantelpiece-clock",
    "piano": "musical-keyboard",
    "camel": "two-hump-camel",
}


def rasterise(icons: dict, name: str, size: int = SIZE) -> Image.Image:
    """One icon of an Iconify collection as RGBA."""
    import resvg_py

    name = icons.get("aliases", {}).get(name, {}).get("parent", name)
    icon = icons["icons"][name]
    width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" width="{4 * size}" height="{4 * size}">{icon["body"]}</svg>'
    )
    big = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")
    return big.resize((size, size), Image.Resampling.LANCZOS)


def photos(args: argparse.Namespace) -> None:
    """Write photos: 40 classes, 20 train, 10 validation and 20 test images each, the shorter side at 160 pixels; no
    validation image shows the same picture as one of another split."""
    for folder in EMBEDDED_CLASSES:
        train, validation, test = three_parts(args.caltech101 / folder)
        chosen = without_twins(test, train + validation, 20)
        splits = {"train": train[:20], "validation": without_twins(validation, train + chosen, 10), "test": chosen}
        for split, files in splits.items():
            target = args.out / "photos" / split / class_name(folder)
            target.mkdir(parents=True, exist_ok=True)
            for i, file in enumerate(files):
                image = Image.open(file).convert("RGB")
                scale = SHORTER / min(image.size)
                size = (max(SHORTER, round(image.width * scale)), max(SHORTER, round(image.height * scale)))
                image.resize(size, Image.Resampling.BICUBIC).save(target / f"{i:02d}.jpg", quality=82)


def photos_mini(args: argparse.Namespace) -> None:
    """Write photos-mini: 40 classes, 20 train and 20 test images each.

    Caltech-101 holds some photos twice, half of the leopards mirrored: a test image is taken only if no train image of
    its class, and no test image before it, is the same picture.
    """
    for folder in EMBEDDED_CLASSES:
        train, test = split_files(args.caltech101 / folder)
        for split, files in (("train", train[:20]), ("test", without_twins(test, train, 20))):
            target = args.out / "photos-mini" / split / class_name(folder)
            target.mkdir(parents=True, exist_ok=True)
            for i, file in enumerate(files):
                small = square(Image.open(file).convert("RGB"))
                small.save(target / f"{i:02d}.jpg", quality=95, subsampling=0)


def without_twins(candidates: list[Path], others: list[Path], count: int) -> list[Path]:
    """The first `count` candidates that show another picture than all of `others` and than each other, mirrored copies
    included."""
    seen = [thumbnail(file) for file in others]
    chosen: list[Path] = []
    for file in candidates:
        small = thumbnail(file)
        nearest = min(np.sqrt(((small - other) ** 2).mean()) for one in seen for other in (one, one[:, ::-1]))
        if nearest > TWIN and len(chosen) < count:
            chosen.append(file)
            seen.append(small)
    return chosen


def thumbnail(file: Path) -> np.ndarray:
    """16 x 16 grey levels."""
    return np.asarray(square(Image.open(file).convert("L"), 16), np.float32)


def square(image: Image.Image, size: int = SIZE) -> Image.Image:
    """Shorter side to `size`, centre crop: what CLIP's own preprocessing does."""
    scale = size / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def emoji(args: argparse.Namespace) -> None:
    """Write `emoji` (Noto train, Fluent test) and `emoji-people` (both styles, with a table of role, gender, skin
    tone)."""
    noto, fluent = (json.loads(path.read_text()) for path in (args.noto, args.fluent))
    for split, icons in (("train", noto), ("test", fluent)):
        for name in EMOJI_CLASSES:
            target = args.out / "emoji" / split / name
            target.mkdir(parents=True, exist_ok=True)
            on_white(rasterise(icons, ICON_OF.get(name, name))).save(target / "0.png", optimize=True)
    rows = []
    for role, gender, tone, icon in people(noto):
        target = args.out / "emoji-people" / "noto"
        target.mkdir(parents=True, exist_ok=True)
        on_white(rasterise(noto, icon)).save(target / f"{icon}.png", optimize=True)
        rows.append({"file": f"noto/{icon}.png", "role": role, "gender": gender, "skin_tone": tone})
    roles = sorted({row["role"] for row in rows})
    for row in rows:
        row["half"] = "train" if roles.index(row["role"]) % 2 == 0 else "test"
    (args.out / "emoji-people" / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def on_white(image: Image.Image) -> Image.Image:
    """Flatten transparency onto white."""
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def people(icons: dict) -> list[tuple[str, str, str, str]]:
    """(role, gender, skin tone, icon) of every role drawn as man and woman, with person where there is one."""
    names = set(icons["icons"])
    tones = ("", "light", "medium-light", "medium", "medium-dark", "dark")
    roles = sorted(n[4:] for n in names if n.startswith("man-") and "tone" not in n and f"woman-{n[4:]}" in names)
    rows = []
    for role in roles:
        if (
            role.endswith("facing-right")
            or role.startswith("and-")
            or icons["icons"].get(f"man-{role}") == icons["icons"].get(f"woman-{role}")
        ):
            continue  # some roles, such as the astronaut, have one drawing for both
        for gender in ("man", "woman", "person"):
            for tone in tones:
                icon = f"{gender}-{role}" + (f"-{tone}-skin-tone" if tone else "")
                if icon in names and tone in ("", "medium-light", "dark"):
                    rows.append((role.replace("-", " "), gender, tone or "default", icon))
    return rows


def pretraining_art(args: argparse.Namespace) -> None:
    """Write Noto art with transparency, one file a caption: objects, animals, foods, places, and people in their
    roles."""
    noto = json.loads(args.noto.read_text())
    categories = json.loads((args.noto.parent / "metadata.json").read_text())["categories"]
    wanted = {ICON_OF.get(name, name): name for name in EMOJI_CLASSES}
    for group in ("Animals & Nature", "Food & Drink", "Travel & Places", "Objects", "Activities"):
        for icon in categories[group]:
            wanted.setdefault(icon, icon.replace("-", " "))
    args.out.mkdir(parents=True, exist_ok=True)
    for icon, name in sorted(wanted.items()):
        if icon in noto["icons"] or icon in noto.get("aliases", {}):
            rasterise(noto, icon, args.size).save(args.out / f"object={name}.png")
    for role, gender, tone, icon in people(noto):
        rasterise(noto, icon, args.size).save(args.out / f"person={gender} {role}={tone}.png")


def words(args: argparse.Namespace) -> None:
    """Write words.txt: single lower-case keywords of CLDR's English emoji annotations, 3 to 10 letters."""
    entries = json.loads(args.annotations.read_text())["annotations"]["annotations"].values()
    keywords = {
        word
        for entry in entries
        for word in entry.get("default", [])
        if word.isascii() and word.isalpha() and word.islower()
    }
    (args.out / "words.txt").write_text("\n".join(sorted(w for w in keywords if 3 <= len(w) <= 10)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["photos", "photos-mini", "emoji", "pretraining-art", "words"])
    for name in ("--caltech101", "--noto", "--fluent", "--annotations", "--out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--size", type=int, default=SIZE, help="pixels of pretraining-art")
    args = parser.parse_args()
    builders = {"photos": photos, "photos-mini": photos_mini, "emoji": emoji, "words": words}
    (builders | {"pretraining-art": pretraining_art})[args.what](args)


if __name__ == "__main__":
    log_to_terminal()
    main()
