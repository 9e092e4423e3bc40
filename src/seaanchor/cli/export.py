"""`seaanchor export` and `steer`: a model as a folder, whole, between the untouched and the trained one, or at t of
a trained map. Nothing heavy is imported before a command needs it."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seaanchor.errors import SeaAnchorError

ExportFormat = Literal["open-clip", "timm", "hf", "hf-vision", "onnx"]


def export(
    *,
    model: str,
    output: Path,
    format: ExportFormat | None = None,
    pretrained: str | None = None,
    preprocess: str | None = None,
    half: bool = False,
    alpha: float = 1.0,
    reference: str | None = None,
    push_to: Annotated[str | None, Parameter(name="--push")] = None,
) -> None:
    """Write a model as a folder that another library loads, with a model card, and verify it by reloading.

    Parameters
    ----------
    model
        Anything `train` takes as a model.
    output
        Folder to write.
    format
        By default that of the model's own library; hf-vision is the image tower as the CLIPVisionModel of
        vision-language models, onnx the image tower with a dynamic batch.
    pretrained
        Tag or weights file for bare names.
    preprocess
        Resizing and normalisation in place of the model's own, as for `train`.
    half
        Store fp16 weights.
    alpha
        Share of the model's weights, 0 to 1; the rest of each weight is the reference's, which keeps more of what the
        model knew before training.
    reference
        With --alpha: the untouched model; by default the one that a run or an embedded variant started from.
    push_to
        ORG/NAME on the Hugging Face Hub: list the files and upload them, to a new private repository if there is none.
        Without this nothing is uploaded.
    """
    if alpha == 1 and reference is not None:
        raise SeaAnchorError(
            "--reference without --alpha", "--alpha, the share of the model's own weights", "add --alpha"
        )
    from seaanchor.encoders.load import load_model
    from seaanchor.export.push import check_push, push
    from seaanchor.report.model_card import export_model
    from seaanchor.steering.interpolation import check_alpha, export_between, load_ends

    check_alpha(alpha)
    if push_to is not None:
        check_push(push_to, output)
    if alpha == 1:
        written = export_model(load_model(model, pretrained, preprocess=preprocess), output, half=half, format=format)
    else:
        ends = load_ends(model, reference, pretrained=pretrained, preprocess=preprocess)
        written = export_between(*ends, alpha, output, half=half, format=format)
    print(f"written and verified: {written}")
    if push_to is not None:
        print(f"uploaded: {push(output, push_to)}")


def steer(
    run: Path,
    /,
    *,
    t: float | None = None,
    output: Path | None = None,
    data: str | None = None,
    ts: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (),
    words: Literal["all", "even", "odd"] = "all",
    sizes: tuple[float, float] = (20 / 224, 40 / 224),
    samples: int | None = None,
    seed: int = 0,
) -> None:
    """Set t of a trained linear map and export the model, or measure what every t does.

    Parameters
    ----------
    run
        Folder of a run with adapter linear.
    t
        Exponent of the map's singular values: 1 is the trained map, 0 the model before training, below 0 the opposite.
    output
        Folder of the export at t.
    data
        Labelled images, or emoji-people, to evaluate every t on. The run folder gets a table, steering.json and
        steering.png.
    ts
        Values of t for the evaluation; -2 to 2 by default.
    words
        Class names that may be drawn: all, or those of even or odd number.
    sizes
        Smallest and largest glyph height of drawn words, as shares of the image's side.
    samples
        Images to evaluate on, as many of each class as it allows; all by default.
    seed
        Random seed of the drawn words, and of which images are taken.
    """
    from seaanchor.steering.curve import steering_curve
    from seaanchor.steering.export import export_at

    if (t is None) == (data is None):
        raise SeaAnchorError(
            "steer with both or neither of --t and --data",
            "--t with --output to export, or --data to evaluate",
            "give one of them",
        )
    if data is not None:
        steering_curve(run, data, ts, words, sizes, seed, samples)
    elif output is None or t is None:
        raise SeaAnchorError("--t without --output", "where the export goes", "add --output")
    else:
        print(f"written and verified: {export_at(run, t, output)}")
