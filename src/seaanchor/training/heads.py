"""The linear head of a run: found before its first step, the same for all of it, and kept in its folder."""

from dataclasses import replace

import torch

from seaanchor.config.schema import RunConfig
from seaanchor.data.class_matching import as_answers
from seaanchor.data.types import Images, UnlabelledImages
from seaanchor.encoders.classifiers import fit_probe_head, kind_of, linear_head
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.head_file import tokens_read
from seaanchor.errors import SeaAnchorError
from seaanchor.method import Method
from seaanchor.types import NamedHead, needs_of


def run_head(
    config: RunConfig, method: Method, model: LoadedModel, images: Images, device: torch.device
) -> NamedHead | None:
    """The linear head of a run; None where texts answer, or nothing asks for answers.

    Args:
        config: of the run.
        method: its parts.
        model: untrained; a probe is fitted on its embeddings.
        images: of the run, with their own classes.
        device: where embeddings are computed.

    Raises:
        SeaAnchorError: the model lacks what is asked for, or has nothing that answers; a head that does not fit its
            embeddings; a linear head with an adapter that maps texts, or with embeddings of length 1.
    """
    if not (method.needs.head or config.head is not None or config.eval_every):
        return model.stored_head
    kind = kind_of(model, config.head)
    if kind == "text":
        return None
    if needs_of(method.adapter).stored_embeddings:
        raise SeaAnchorError(
            f"adapter {config.adapter.kind} with a linear head ({kind}), which has no texts to map",
            "a model with texts, or adapter full, last_blocks or lora",
            "change one of the two",
        )
    if config.unit_embeddings:
        raise SeaAnchorError(
            f"unit_embeddings with a linear head ({kind}), which reads raw embeddings", "raw embeddings", "leave it out"
        )
    return linear_head(
        model,
        kind,
        config.head,
        lambda: fit_probe_head(
            model, images, config.train_data, config.batch_size, config.workers, device, config.seed
        ),
    )


def with_answers(images: Images, named: NamedHead | None, method: Method, source: str) -> Images:
    """Training images with the class numbers and names of the head, where the method reads its answers.

    Raises:
        SeaAnchorError: a class, or a text, that the head does not answer with.
    """
    if named is None or not method.needs.head or isinstance(images, UnlabelledImages):
        return images
    return as_answers(images, named.class_names, len(named.head.weight_CD), source, f"the head ({named.head.kind})")


def keeping(model: LoadedModel, named: NamedHead | None) -> LoadedModel:
    """The model with the head of its run, so that it goes with it; its own classifier does so anyway."""
    if named is None or named.head.kind == "classifier":
        return replace(model, stored_head=None)
    return replace(model, stored_head=replace(named, tokens=tokens_read(model.encoder)))
