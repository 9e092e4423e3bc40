"""One way in: a model name from any supported source to a `LoadedModel`."""

from dataclasses import replace
from pathlib import Path

from seaanchor.encoders.classifiers import with_stored_head
from seaanchor.encoders.embedded import embedded_folder, embedded_models
from seaanchor.encoders.encoder import LoadedModel, with_tokens
from seaanchor.encoders.hub import quick_to_fail
from seaanchor.encoders.model_paths import folder_of, with_prefix
from seaanchor.encoders.own_module import SETTINGS
from seaanchor.encoders.preprocess_option import check_preprocess, with_preprocess
from seaanchor.encoders.pretrained import check_pretrained
from seaanchor.encoders.tokens import Tokens
from seaanchor.encoders.unread_pixels import tell_unread
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checksums import check_checksums
from seaanchor.utils.stages import stage


def load_model(
    name: str | Path,
    pretrained: str | Path | None = None,
    image_size: int | None = None,
    tokens: Tokens | None = None,
    *,
    preprocess: str | None = None,
) -> LoadedModel:
    """Load a model, with the head that lies with it if there is one.

    Args:
        name: `seaanchor-tiny` and its variants (embedded); an OpenCLIP name such as `ViT-B-32` (with `pretrained`);
            the path of a folder that OpenCLIP, timm or transformers reads, such as an export; `hf-hub:ORG/REPO`
            (OpenCLIP on the Hub); `timm:NAME`; `hf:ORG/NAME` (transformers, extra `hf`). `local-dir:PATH`,
            `timm:local-dir:PATH` and `hf:PATH` name the library of a folder.
        pretrained: for bare OpenCLIP and timm names: a tag, a weights file, or `none` for random weights. `BASE+FILE`
            sets the image tower of a file over the text side of a tag or of another file, `+FILE` over that of an
            OpenCLIP folder; `FILE#ENTRY` chooses one of several sets of weights in a file.
        image_size: input side in pixels where the architecture allows another than its own. A note tells of rows and
            columns that its patches then leave out.
        tokens: what of the tower is the embedding, `class`, `mean` or `patches`, as in `Encoder`; the model has no text
            side then. By default the library's own embedding.
        preprocess: how pictures are resized, cropped, padded and normalised, in place of the model's own: a tag of an
            OpenCLIP name, or settings such as `resize_mode=squash,interpolation=bilinear,mean=0.5,std=0.5`.

    Returns:
        Encoder in eval mode on the CPU in fp32, with its text side.

    Raises:
        SeaAnchorError: unknown name or tag (with the nearest ones), unreachable hub, weights that do not fit, missing
            extra, tokens that the tower does not have, preprocessing that the model's library cannot express; a file of
            an export that is not what was written.
    """
    name, pretrained = _text("a model", name), None if pretrained is None else _text("pretrained", pretrained)
    found = with_prefix(name)
    check_pretrained(found, pretrained)
    check_preprocess(preprocess)
    if (folder := folder_of(found)) is not None:
        check_checksums(folder)
    with stage(f"loading {name}", 1, "model"), quick_to_fail(found, pretrained):
        loaded = replace(_load(found, pretrained, image_size), name=name)
    if image_size is not None:
        tell_unread(loaded.encoder)
    loaded = with_preprocess(loaded, preprocess)
    return with_stored_head(replace(with_tokens(loaded, tokens), pretrained=pretrained))


def _text(what: str, given: object) -> str:
    if not isinstance(given, str | Path):
        raise SeaAnchorError(f"{what} of type {type(given).__name__}", "a name or a path", "write it as text")
    return str(given)


def _load(name: str, pretrained: str | None, image_size: int | None) -> LoadedModel:
    """By the library that the name's prefix stands for."""
    if name.startswith("timm:"):
        from seaanchor.encoders.timm import load_timm

        return load_timm(name, pretrained, image_size)
    if name.startswith("hf:"):
        from seaanchor.encoders.huggingface.load import load_hf

        return load_hf(name, image_size)
    if (Path(name) / SETTINGS).is_file():
        raise SeaAnchorError(
            f"{name} holds the weights of an encoder of your own, and not its code",
            "a model whose library builds it",
            "build the module in Python and use seaanchor.encoders.own_module.load_encoder(folder, module)",
        )
    from seaanchor.encoders.openclip import load_open_clip

    if name in embedded_models():
        source = f"local-dir:{embedded_folder(name)}"
    elif (Path(name) / "open_clip_config.json").is_file():
        source = f"local-dir:{Path(name).absolute()}"
    else:
        source = name
    return load_open_clip(name, source, pretrained, image_size)
