"""The model card of an export: where the weights come from, what was measured, how they are loaded, their limits.

It says what stands on this disk and nothing else: what is not known is called so.
"""

import json
from collections.abc import Mapping
from typing import Any

from seaanchor import __version__
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.export.card_method import citations, data_lines, method_lines, recipe_name
from seaanchor.export.heads import answering, head_lines
from seaanchor.export.licence import CARD, Base, base_of
from seaanchor.export.origin import Numbers, Origin
from seaanchor.export.reloaded import Target
from seaanchor.export.snippets import head_snippet, own_head_snippet, snippet
from seaanchor.utils.checkpoint import write_atomic

LIBRARIES = {
    "open-clip": "open_clip",
    "timm": "timm",
    "hf": "transformers",
    "hf-vision": "transformers",
    "onnx": "onnx",
}
IMAGES_ALONE = ("hf-vision", "onnx")
UNKNOWN = (
    "**not known here**: no card, configuration or tag on this disk states it. Ask its authors before passing it on"
)


def write_card(model: LoadedModel, format: str, target: Target, origin: Origin) -> None:
    """Write the model card into an export that is otherwise complete.

    Args:
        model: what is exported.
        format: by its name.
        target: where it goes.
        origin: the run and its evaluations.
    """
    settings = origin.settings or {}
    trained = origin.settings is not None
    base = base_of(
        str(settings.get("model") or model.name), settings.get("pretrained") if trained else model.pretrained
    )
    texts = model.encode_texts is not None and format not in IMAGES_ALONE
    title = target.home.absolute().name if not trained else f"{base.name.rpartition('/')[2]}-{recipe_name(settings)}"
    weights = fingerprint(model.encoder)
    numbers = [found for found in origin.numbers if found.weights == weights]
    sections = {
        "": [*_summary(model, base, format, origin), *_warning(origin.diverged)],
        "Base model and licence": _base_lines(base),
        "Method": _method(settings, origin),
        "Data": data_lines(settings, origin.steps, origin.images_seen) if trained else [],
        "Numbers": _numbers_lines(numbers, target.half),
        "How to load it": [
            f"```python\n{_snippet(model, target, format, texts)}```",
            *head_lines(model, format),
            _input_line(model, format),
        ],
        "Limits": _limits(model, format, target.half, settings if trained else None, numbers),
        "Citation": citations(settings) if trained else [],
    }
    body = [f"# {title}"]
    for name, lines in sections.items():
        body += ["\n".join([f"## {name}\n", *lines] if name else lines)] if lines else []
    head = _front_matter(model, base, format, texts, settings)
    write_atomic(target.folder / CARD, f"{head}\n" + "\n\n".join(body) + "\n")


def _summary(model: LoadedModel, base: Base, format: str, origin: Origin) -> list[str]:
    what = "image tower" if format in IMAGES_ALONE or model.encode_texts is None else "image and text model"
    if origin.settings is None and origin.note:
        done = f"with other weights, which Sea Anchor {__version__} computed"
    elif origin.settings is None:
        done = "as it was loaded: no run that trained it is known"
    else:
        done = f"fine-tuned by Sea Anchor {__version__}"
    return [f"The {what} of `{base.name}`, {done}."]


def _method(settings: Mapping[str, Any], origin: Origin) -> list[str]:
    lines = [] if origin.settings is None else method_lines(settings)
    return [*lines, *([""] if lines and origin.note else []), *filter(None, [origin.note])]


def _warning(diverged: str) -> list[str]:
    return [f"\n**The run diverged, do not rely on these weights:** {diverged}."] if diverged else []


def _base_lines(base: Base) -> list[str]:
    weights = f", weights `{base.pretrained}`" if base.pretrained else ""
    hub = f" (on the Hub: `{base.hub}`)" if base.hub else ""
    licence = UNKNOWN if base.licence is None else f"{base.licence.text} (says {base.licence.source})"
    return [f"- base model: `{base.name}`{weights}{hub}", f"- licence of the base model: {licence}."]


def _numbers_lines(numbers: list[Numbers], half: bool) -> list[str]:
    if not numbers:
        return [
            "No evaluation of these weights lay beside the run when this was written. `seaanchor evaluate` makes one; "
            "export again to have it here: `seaanchor export --model RUN/export --output NEW_FOLDER`."
        ]
    lines = ["Shares in per cent with 95 % intervals, beside the untouched model on the same images.", ""]
    for found in numbers:
        lines += [f"**{found.dataset}**", ""]
        if found.failed:
            lines += [f"**Self-checks failed, do not believe these numbers:** {'; '.join(found.failed)}.", ""]
        lines += ["| | this model | untouched | change | n |", "| --- | --- | --- | --- | --- |"]
        lines += [f"| {row.what} | {row.value} | {row.reference} | {row.change} | {row.n} |" for row in found.rows]
        lines += ["", found.protocol, ""]
    return [*lines, "They were measured before the weights were rounded to fp16."] if half else lines[:-1]


def _snippet(model: LoadedModel, target: Target, format: str, texts: bool) -> str:
    config = target.folder / "config.json"
    architecture = ""
    if format in ("hf", "hf-vision") and config.is_file():
        (architecture,) = json.loads(config.read_text(encoding="utf-8"))["architectures"]
    named = answering(model)
    loads = snippet(format, architecture, texts)
    if named is None:
        return loads
    if format != "onnx" and model.stored_head is None:
        return loads + own_head_snippet(format, named.class_names is not None)
    return loads + head_snippet(format, architecture, model.classifier is not None, named.class_names is not None)


def _input_line(model: LoadedModel, format: str) -> str:
    mean, std = (
        "/".join(f"{x:.4g}" for x in getattr(model.encoder, name).flatten().tolist()) for name in ("mean", "std")
    )
    side = model.encoder.image_size
    how = f"Pictures become {side} × {side} pixels: {model.encoder.preprocessing.words};"
    if format == "onnx":
        return f"\n{how} levels in [0, 1]; the graph itself normalises them (mean {mean}, std {std})."
    return f"\n{how} then normalised with mean {mean} and std {std}. The library's own preprocessing does both."


def _limits(
    model: LoadedModel, format: str, half: bool, settings: Mapping[str, Any] | None, numbers: list[Numbers]
) -> list[str]:
    attack = (settings or {}).get("perturbation") or {}
    lines = []
    if "pgd" in str(attack.get("kind")):
        ball = f"ε = {attack['epsilon']} ({attack['norm']})"
        lines.append(f"Trained against changes of at most {ball}, and not against larger ones.")
    lines.append(
        "Robust accuracy is an upper bound: a stronger attack may lower it."
        if numbers
        else "What training gained and what it cost is not stated here: no evaluation lay beside the run when this was "
        "written."
    )
    if format in IMAGES_ALONE and model.encode_texts is not None:
        lines.append("The text side is not in this format: text embeddings come from an export of the whole model.")
    if format == "hf-vision" and model.family == "open_clip":
        lines.append(
            "transformers resizes pictures with other rounding than OpenCLIP: pixels may be 1/255 apart, and a crop "
            "may lie a pixel beside OpenCLIP's."
        )
    if half:
        lines.append("Weights are stored in fp16, and embeddings differ from those of fp32 by rounding.")
    return [f"- {line}" for line in lines]


def _front_matter(model: LoadedModel, base: Base, format: str, texts: bool, settings: Mapping[str, Any]) -> str:
    """Settings that the Hub reads."""
    import yaml

    kind = str((settings.get("perturbation") or {}).get("kind"))
    classifier = answering(model) if format == "onnx" else None if format == "hf-vision" else model.classifier
    task = "image-feature-extraction" if classifier is None else "image-classification"
    tags = ["seaanchor"]
    tags += ["adversarial-robustness"] if "pgd" in kind else []
    tags += ["typographic-attacks"] if "typographic" in kind else []
    said: dict[str, Any] = {"license": base.licence.identifier if base.licence else "unknown"}
    if base.licence and base.licence.name:
        said["license_name"] = base.licence.name
    said |= {"base_model": base.hub} if base.hub else {}
    said |= {"library_name": LIBRARIES[format]} if format in LIBRARIES else {}
    said |= {"pipeline_tag": "zero-shot-image-classification" if texts else task, "tags": tags}
    return f"---\n{yaml.safe_dump(said, sort_keys=False, allow_unicode=True)}---\n"
