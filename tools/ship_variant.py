"""Turn the export of a run of the embedded model into an embedded variant: its image tower alone, in fp16; the text
tower is shared.

python tools/ship_variant.py --run runs/lore-tiny --out models/seaanchor-tiny-lore
"""

import argparse
import sys
from pathlib import Path

from seaanchor.encoders.load import load_model
from seaanchor.utils.log import log_to_terminal

sys.path.insert(0, str(Path(__file__).parents[1]))  # the root of the clone, which holds the package `tools`
from tools.pretraining.tiny import write_folder


def main() -> None:
    """Read the arguments, write the folder and print its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = load_model(str(args.run / "export"))
    write_folder(model.module.state_dict(), model.encoder.image_size, args.out, text_tower_of="seaanchor-tiny")
    print(f"{args.out}: {sum(file.stat().st_size for file in args.out.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    log_to_terminal()
    main()
