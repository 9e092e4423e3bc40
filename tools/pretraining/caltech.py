"""How Caltech-101 is named and split here: every use of it must agree, or a test image leaks into training.

Source: Li, Andreeto, Ranzato, Perona, *Caltech 101*, DOI 10.22002/D1.20086, CC BY 4.0.
"""

import random
from pathlib import Path

# The most populous object classes with 20 different test photos: most leopards are mirrored copies of one another, two
# stop signs are one.
EMBEDDED_CLASSES = (
    "airplanes",
    "Motorbikes",
    "watch",
    "elephant",
    "bonsai",
    "car_side",
    "ketch",
    "chandelier",
    "hawksbill",
    "grand_piano",
    "brain",
    "butterfly",
    "helicopter",
    "menorah",
    "trilobite",
    "starfish",
    "kangaroo",
    "sunflower",
    "ewer",
    "buddha",
    "scorpion",
    "revolver",
    "laptop",
    "ibis",
    "llama",
    "minaret",
    "umbrella",
    "electric_guitar",
    "crab",
    "crayfish",
    "cougar_face",
    "dragonfly",
    "flamingo",
    "ferry",
    "dalmatian",
    "lotus",
    "dolphin",
    "euphonium",
    "soccer_ball",
    "joshua_tree",
)

_NAMES = {
    "airplanes": "airplane",
    "Motorbikes": "motorbike",
    "Leopards": "leopard",
    "car_side": "car",
    "cougar_face": "cougar",
}


def class_name(folder: str) -> str:
    """The class in words: `grand_piano` → `grand piano`, `Motorbikes` → `motorbike`."""
    return _NAMES.get(folder, folder.replace("_", " ").lower())


def split_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Train and test files of one class folder: a third, drawn with a seed that is the folder's name, is the test
    part."""
    files = sorted(folder.glob("*.jpg"))
    random.Random(folder.name).shuffle(files)
    num_test = len(files) // 3
    return files[num_test:], files[:num_test]


def three_parts(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Train, validation and test files of one class folder: the last quarter of what `split_files` leaves to train on
    is the validation part."""
    rest, test = split_files(folder)
    num_train = len(rest) - len(rest) // 4
    return rest[:num_train], rest[num_train:], test
