"""Turn the export of a run of an embedded model into a variant of it: its image tower alone, in fp16; the text tower is
shared.

python tools/ship_variant.py --run runs/lore-tiny --out models/seaanchor-tiny-lore
"""

import argparse
import json
from pathlib import Path

from safetensors.torch import save

from seaanchor.encoders.embedded import embedded_folder, embedded_models
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.model_pair import reference_of
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.log import log_to_terminal


def ship(run: Path, output: Path) -> None:
    """Write the variant.

    Raises:
        SeaAnchorError: the run did not start from an embedded model.
    """
    base, _ = reference_of(str(run / "export"))
    if base not in embedded_models():
        raise SeaAnchorError(f"{run} started from {base}", f"one of {', '.join(embedded_models())}", "name another run")
    state = load_model(str(run / "export")).module.state_dict()
    tower = {
        k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items() if k.startswith("visual.")
    }
    config = json.loads((embedded_folder(base) / "open_clip_config.json").read_text())
    text = config["model_cfg"]["text_cfg"]
    text.pop("hf_tokenizer_name", None)  # its files lie beside the base model
    text["tokenizer_kwargs"] = {"bpe_path": config["seaanchor"]["bpe"]}
    config["seaanchor"] = {"text_tower_of": base}
    write_atomic(output / "open_clip_model.safetensors", save(tower, metadata={"format": "pt"}))
    write_atomic(output / "open_clip_config.json", json.dumps(config, indent=2))


def main() -> None:
    """Read the arguments, write the folder and print its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    ship(args.run, args.out)
    print(f"{args.out}: {sum(file.stat().st_size for file in args.out.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    log_to_terminal()
    main()
