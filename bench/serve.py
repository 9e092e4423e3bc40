"""A step of whatever build is on the path, run when asked: the program of `bench.builds`' processes.

`python bench/serve.py SUBJECT` makes a step, says `ready`, and then answers lines on its input: `run` with the
processor seconds that the step took, `peak` with the bytes resident at its worst moment. SUBJECT is JSON, the fields of
`bench.builds.Subject`. The package and the bench that it imports are those of the path, so what is called by other
names in another build is told apart here.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any


def made(
    what: str, model: str, batch: int, precision: str, num_steps: int, primal_steps: int, image_size: int | None
) -> Callable[[], object]:
    """A `fare` or `lore` step, or the `attack` of a FARE step alone."""
    import torch

    from bench.subjects import in_precision, ours

    torch.set_num_threads(1)
    try:
        from seaanchor.config import recipes
    except ImportError:  # ed7a3f0
        from seaanchor import recipes  # type: ignore[attr-defined,no-redef]
    recipe = in_precision(recipes.lore() if what == "lore" else recipes.fare(), precision)
    attack = replace(recipe.perturbation, num_steps=num_steps)
    recipe = replace(recipe, perturbation=attack, primal_steps=primal_steps)
    recipe = recipe if image_size is None else replace(recipe, image_size=image_size)
    subject: Any = ours(recipe, batch, model=model)
    if what != "attack":
        return subject.step
    return subject.attack if hasattr(subject, "attack") else partial(_attack_of_ed7a3f0, subject)


def _attack_of_ed7a3f0(subject: Any) -> object:
    import torch
    from seaanchor.kernels import fitted, num_tokens  # type: ignore[import-not-found]
    from seaanchor.step import Part, _attacked  # type: ignore[import-not-found]

    setup, shadow = subject.setup, subject.moving.shadow
    encoder = setup.model.encoder if shadow is None else shadow.refreshed()
    with fitted(encoder, torch.float32 if shadow is None else shadow.dtype, num_tokens(setup.model.encoder)):
        return _attacked(setup.method, encoder, Part(subject.images, subject.targets), 0, setup.reference)


def _resident(name: str) -> int:
    """Bytes of a line of this process's status, such as `VmHWM`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def answer(asked: str, step: Callable[[], object]) -> dict[str, float]:
    """What a line of the input asks for."""
    if asked == "peak":
        Path("/proc/self/clear_refs").write_text("5")  # from now on
    started = time.process_time()
    step()
    return {"seconds": time.process_time() - started} if asked == "run" else {"peak": _resident("VmHWM")}


def main() -> None:
    step = made(**json.loads(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(line.strip(), step)), flush=True)


if __name__ == "__main__":
    main()
