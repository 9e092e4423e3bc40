"""The contract of a loaded model: what its own library makes of the same images and texts, a training step, the export,
and what it costs.

Legend: B batch, N texts, C channels, H W pixels, D embedding dimension.
"""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeCopyMode, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from seaanchor.config.assemble import method_of
from seaanchor.config.recipes import lore
from seaanchor.data.images import read_image
from seaanchor.encoders.encoder import Encoder, LoadedModel, copied
from seaanchor.encoders.load import load_model
from seaanchor.export.folder import export_model
from seaanchor.profiling.flops import count_flops, forward_flops
from seaanchor.testing.library import Library, photos
from seaanchor.testing.rules import different_images, rule, same_rows, shown
from seaanchor.training.batches import MicroBatch
from seaanchor.training.state import TrainState
from seaanchor.training.step import train_step
from seaanchor.types import Batch, BindContext, Targets

TEXTS = ("a photo of a cat.", "Two grand pianos, 3 dogs & a zebra!!!", "x")
PASSES = (2.6, 3.06)  # some inputs are constants, and some outputs unused: they ask for no gradient


def model_checks(model: LoadedModel, library: Library) -> dict[str, Callable[[], None]]:
    """The checks by name, in the order in which they are run: `export` writes what `step` trained.

    Args:
        model: as `load_model` returns it; it is left as it was.
        library: what the model's own library makes of the same images and texts.
    """
    trained = [model]

    def step() -> None:
        trained[0] = check_step(model)

    return {
        "images": lambda: check_images(model, library),
        "texts": lambda: check_texts(model, library),
        "classes": lambda: check_classifier(model, library),
        "pixels": lambda: check_pixels(model, library),
        "step": step,
        "export": lambda: check_export(trained.pop()),
        "flops": lambda: check_flops(model),
    }


def _pixels(model: LoadedModel) -> Tensor:
    return different_images(model.encoder.image_size, 1)


@torch.no_grad()
def check_images(model: LoadedModel, library: Library) -> None:
    """The embeddings of images are those of the library."""
    if library.encode_image is None:
        return
    pixels_BCHW, encoder = _pixels(model)[:1], model.encoder
    theirs = library.encode_image((pixels_BCHW - encoder.mean) / encoder.std)
    ours = encoder(pixels_BCHW)
    rule(same_rows(ours, theirs), f"images are embedded as the library does: {shown(ours)} and {shown(theirs)}")


@torch.no_grad()
def check_texts(model: LoadedModel, library: Library) -> None:
    """Different texts have different embeddings, of the images' width, and they are those of the library."""
    if model.encode_texts is None:
        rule(library.encode_texts is None, "the library embeds texts, so the model does")
        return
    ours = model.encode_texts(TEXTS)
    rule(ours.shape == (len(TEXTS), model.encoder.dim), f"texts have the images' width: {shown(ours)}")
    rule(bool(ours.isfinite().all()), "text embeddings are finite")
    rule(not same_rows(ours[:1], ours[1:2]), "different texts have different embeddings")
    rule(same_rows(model.encode_texts(TEXTS[1:2]), ours[1:2]), "a text's embedding does not depend on the others")
    if library.encode_texts is not None:
        rule(same_rows(ours, library.encode_texts(TEXTS)), "texts are embedded as the library does")


@torch.no_grad()
def check_classifier(model: LoadedModel, library: Library) -> None:
    """The model's own classifier, where it has one, answers as the library's model does."""
    if library.classify is None or model.classifier is None:
        return
    pixels_BCHW, encoder = _pixels(model)[:1], model.encoder
    ours_BY = model.classifier.head(encoder(pixels_BCHW))
    theirs_BY = library.classify((pixels_BCHW - encoder.mean) / encoder.std)
    rule(same_rows(ours_BY, theirs_BY), f"images are classified as the library does: {shown(ours_BY)}")


def check_pixels(model: LoadedModel, library: Library) -> None:
    """Pictures of all shapes become the pixels that the library makes of them."""
    if library.transform is None:
        return
    encoder = model.encoder
    with tempfile.TemporaryDirectory() as folder:
        for file in photos(Path(folder)):
            with Image.open(file) as image:
                theirs = library.transform(image)
            ours = (read_image(file, encoder.preprocessing).float() / 255 - encoder.mean) / encoder.std
            same_shape = ours.shape == theirs.shape
            rule(same_shape, f"pictures become pixels as in the library: {shown(ours)} and {shown(theirs)}")
            far = float((ours - theirs).abs().max())
            rule(
                far <= library.pixel_tolerance,
                f"pictures become pixels as in the library: {file.name} is {far:.2g} off",
            )


def check_step(model: LoadedModel) -> LoadedModel:
    """One step of LORE on two images: a finite loss, weights that move and stay finite, and buffers, such as the
    statistics of batch normalisation, that do not move. Returns the trained copy."""
    config = lore()
    config = replace(config, perturbation=replace(config.perturbation, num_steps=1), primal_steps=1)
    trained, pixels_BCHW = copied(model), _pixels(model)
    policy, index_B = trained.encoder, torch.arange(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = method_of(config).bind(BindContext(policy.dim, image_size=policy.image_size))
        weights = list(method.adapter.trainable(policy))
        dual = method.anchor.dual_module()
        assert dual is not None
        with torch.no_grad():
            targets = Targets(model.encoder(pixels_BCHW))
        # steps of one size whatever the scale of the gradient, with less state than Adam
        optimizer = torch.optim.RMSprop(weights, lr=1e-5)
        state = TrainState(policy, optimizer, dual, torch.optim.SGD(dual.parameters(), lr=1e-3))
        before = [weight.detach().sum(dtype=torch.float64) for weight in weights]
        policy.train()
        micro_batch = MicroBatch(Batch(pixels_BCHW, None, index_B), targets)
        record = train_step(method, state, [micro_batch], config, 0)
    policy.eval().requires_grad_(False)
    loss = getattr(record, "objective_B", None)
    rule(isinstance(loss, Tensor) and bool(loss.isfinite().all()), f"the loss of a step is finite: {loss}")
    after = [weight.detach().sum(dtype=torch.float64) for weight in weights]
    rule(all(bool(total.isfinite()) for total in after), "weights stay finite")
    moved = sum(a.item() != b.item() for a, b in zip(after, before, strict=True))
    rule(moved > 0, f"weights move: {moved} of {len(weights)} tensors")
    for (name, old), new in zip(model.encoder.named_buffers(), policy.buffers(), strict=True):
        rule(torch.equal(old, new), f"buffers do not move: {name}")
    return trained


@torch.no_grad()
def check_export(model: LoadedModel) -> None:
    """The export loads in its own library with the same embeddings, and by its path."""
    pixels_BCHW = _pixels(model)[:1]
    with tempfile.TemporaryDirectory() as folder:
        export_model(model, Path(folder))
        if model.family == "module":
            return
        prefix = {"timm": "timm:local-dir:", "hf": "hf:"}.get(model.family, "")
        again = load_model(f"{prefix}{folder}")
    ours, theirs = model.encoder, again.encoder
    same = theirs.preprocessing == ours.preprocessing
    rule(same, f"an export keeps the preprocessing: {theirs.preprocessing} and {ours.preprocessing}")
    same = torch.equal(theirs.mean, ours.mean) and torch.equal(theirs.std, ours.std)
    rule(same, f"an export keeps mean and std: {theirs.mean.flatten()}, {theirs.std.flatten()}")
    rule(same_rows(theirs(pixels_BCHW), ours(pixels_BCHW), 1e-5), "an export loads with the same embeddings of images")
    if model.classifier is not None:
        rule(again.classifier is not None, "an export keeps the classifier")
        assert again.classifier is not None
        same = torch.equal(again.classifier.head.weight_CD, model.classifier.head.weight_CD)
        rule(same, "an export keeps the classifier")
    if model.encode_texts is not None:
        rule(again.encode_texts is not None, "an export keeps the text side")
        assert again.encode_texts is not None
        same = same_rows(again.encode_texts(TEXTS), model.encode_texts(TEXTS), 1e-5)
        rule(same, "an export loads with the same embeddings of texts")


def check_flops(model: LoadedModel) -> None:
    """A forward costs what torch counts, and both gradients, to weights and to pixels, another forward each."""
    encoder, mode = model.encoder, FakeTensorMode(allow_non_fake_inputs=True)
    ours = forward_flops(encoder, encoder.image_size)
    with FakeCopyMode(mode):  # shapes without contents, as costs are predicted
        twin = copy.deepcopy(encoder)
    try:
        with mode:
            theirs, passes = _torch_flops(twin)
    except DataDependentOutputException:  # a tower that asks for values
        theirs, passes = _torch_flops(copy.deepcopy(encoder))
    rule(abs(ours - theirs) <= 0.01 * theirs, f"a forward costs what torch counts: {ours:.4g} and {theirs:.4g}")
    share = passes / ours
    rule(PASSES[0] <= share <= PASSES[1], f"forward and both gradients cost three forwards: {share:.3f}")


def _torch_flops(encoder: Encoder) -> tuple[int, int]:
    """A forward by torch's own counter, with a graph of gradients, as it does not know the kernel of attention without
    one; a forward and both gradients by ours."""
    pixels_BCHW = torch.zeros(1, 3, encoder.image_size, encoder.image_size, requires_grad=True)
    encoder.requires_grad_(True)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        encoder(pixels_BCHW)
    return counter.get_total_flops(), count_flops(lambda: encoder(pixels_BCHW).sum().backward())[0]
