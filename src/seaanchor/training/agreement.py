"""What the processes of a run must have in common before its first step."""

from typing import Any

import torch

from seaanchor import __version__
from seaanchor.config.run_settings import PATHS
from seaanchor.config.schema import to_dict
from seaanchor.distributed.agreement import flat
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.registry import plugin_hashes
from seaanchor.training.precision import computed_in
from seaanchor.training.setup import Setup

OWN = ("workers", "report_to", "resume", "device", "plugins")
"""Settings that may differ: what the first process alone reads, and how a process loads images. Paths may, too, for
what lies there is compared."""


def facts(setup: Setup) -> dict[str, Any]:
    """Settings, weights, list of images and versions, by name; weights and images as hashes."""
    settings = {name: value for name, value in flat(to_dict(setup.config)).items() if name not in (*OWN, *PATHS)}
    computed = computed_in(setup.config, setup.device)
    prepared = {
        "the hash of the weights": fingerprint(setup.model.module),
        "the hash of the list of images": setup.identity["images"],
        "the hash of the sizes of images": setup.identity["image sizes"],
        "the number of images": len(setup.images.paths),
        "the number of steps": setup.total_steps,
        "the preprocessing": setup.identity["preprocessing"],
        "the head": setup.identity.get("head"),
        "the device": computed["device"],
        "the precision of updates here": computed["updates"],
        "the precision of attacks here": computed["attacks"],
        "the source of the plugins": sorted(plugin_hashes(setup.config.plugins).values()),
        "the version of Sea Anchor": __version__,
        "the version of torch": torch.__version__,
    }
    return settings | prepared
