"""Operations of towers in closed form, from the tables of their papers: nothing here runs or reads a model.

Each is what one image costs (`seaanchor.profiling.flops.Tower`), a multiplication and an addition being two.

Legend: T tokens, w width, H rows of a square map, k kernel.
"""

from collections.abc import Sequence
from typing import Literal

from seaanchor.profiling.flops import Tower


def vit(
    layers: int,
    tokens: int,
    width: int,
    patch: int,
    *,
    hidden: int = 0,
    image_size: int = 224,
    extra: int = 0,
    class_token: Literal["", "queries", "projections"] = "",
) -> Tower:
    """A vision transformer (Dosovitskiy et al. 2021): four projections, an MLP of two products, and in each layer two
    inner products of attention.

    Args:
        layers, tokens, width, patch: its sizes.
        hidden: width within the MLP, 4·w by default; of a gated MLP 3/2 of it, as that has three products.
        image_size: side of the image.
        extra: multiplications of what follows the last layer.
        class_token: what the last layer computes of the class token alone, where that is the embedding: from its
            `queries` on, or from its `projections` behind the attention on.
    """
    mlp = 2 * width * (hidden or 4 * width)
    block = tokens * (4 * width**2 + mlp)
    patches = 2 * (image_size // patch) ** 2 * 3 * patch**2 * width
    others = tokens - 1 if class_token else 0
    unread = 2 * others * ((2 if class_token == "queries" else 1) * width**2 + mlp)
    inner, unread_inner = layers * 2 * 2 * tokens**2 * width, 2 * 2 * others * tokens * width
    return Tower(2 * (layers * block + extra) + patches, inner, patches, unread, unread_inner)


def attention_pooling(tokens: int, width: int) -> tuple[int, int]:
    """SigLIP's pooling (Zhai et al. 2023): one learned query, keys and values of all tokens, an MLP; multiplications,
    and operations of the inner products."""
    return 2 * tokens * width**2 + 2 * width**2 + 8 * width**2, 2 * 2 * tokens * width


def siglip_base() -> Tower:
    """ViT-B/16 of SigLIP, 224 px: no class token."""
    extra, inner = attention_pooling(196, 768)
    tower = vit(12, 196, 768, 16, extra=extra)
    return Tower(tower.weights, tower.inner + inner, tower.first)


def convnext_tiny(size: int = 224) -> Tower:
    """ConvNeXt-T (Liu et al. 2022, table 9): depths 3, 3, 9, 3."""
    widths, depths, side = (96, 192, 384, 768), (3, 3, 9, 3), size // 4
    first = side**2 * 3 * 4**2 * widths[0]
    total = first
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            side //= 2
            total += side**2 * 2**2 * widths[stage - 1] * width
        total += depth * side**2 * (7**2 * width + 8 * width**2)
    return Tower(2 * total, 0, 2 * first)


def swin_tiny() -> Tower:
    """Swin-T at 224 px (Liu et al. 2021): windows of 7 x 7 tokens, four patches merged into one between stages."""
    side, width, first, inner = 56, 96, 56**2 * 3 * 4**2 * 96, 0
    total = first
    for stage, depth in enumerate((2, 2, 6, 2)):
        if stage:
            side, width = side // 2, 2 * width
            total += side**2 * 2 * width * width  # 4·(w/2) numbers become w
        total += depth * side**2 * 12 * width**2
        inner += depth * 2 * 2 * side**2 * 49 * width
    return Tower(2 * total, inner, 2 * first)


def _residual_stages(side: int, channels: int, *, stride_on_pooling: bool) -> int:
    """The four stages of bottlenecks of a ResNet-50 (He et al. 2016), multiplications; CLIP's strides are poolings
    between its convolutions, before the last product and before the shortcut."""
    total = 0
    for stage, depth in enumerate((3, 4, 6, 3)):
        inner = 64 * 2**stage
        for block in range(depth):
            stride = 2 if stage and not block else 1
            out = side // stride
            total += side**2 * channels * inner
            total += (side if stride_on_pooling else out) ** 2 * 9 * inner**2
            total += out**2 * inner * 4 * inner
            total += 0 if block else out**2 * channels * 4 * inner
            side, channels = out, 4 * inner
    return total


def resnet50(size: int = 224) -> Tower:
    """ResNet-50 with its stride in the 3 x 3 convolution, without the classifier."""
    first = (size // 2) ** 2 * 49 * 3 * 64
    return Tower(2 * (first + _residual_stages(size // 4, 64, stride_on_pooling=False)), 0, 2 * first)


def clip_resnet50() -> Tower:
    """CLIP's RN50 at 224 px (Radford et al. 2021): three convolutions first, attention over 49 cells and their mean
    last."""
    first = 112**2 * 9 * 3 * 32
    stem = 112**2 * 9 * (32 * 32 + 32 * 64)
    pooling = 50 * (3 * 2048**2 + 2048 * 1024)
    total = first + stem + _residual_stages(56, 64, stride_on_pooling=True) + pooling
    return Tower(2 * total, 2 * 2 * 50**2 * 2048, 2 * first)


# kernel, channels after the expansion, channels out, channels within squeeze-and-excitation, stride
Mobile = tuple[int, int, int, int, int]


def _inverted_residuals(side: int, channels: int, blocks: Sequence[Mobile]) -> tuple[int, int]:
    """Multiplications of inverted residual blocks (Sandler et al. 2018), and the side of the last map."""
    total = 0
    for kernel, middle, out, squeezed, stride in blocks:
        total += side**2 * channels * middle if middle != channels else 0
        side = -(-side // stride)
        total += side**2 * (kernel**2 * middle + middle * out) + 2 * middle * squeezed
        channels = out
    return total, side


def efficientnet_lite0(size: int = 224) -> Tower:
    """EfficientNet-B0's blocks (Tan and Le 2019, table 1) without squeeze-and-excitation; stem and head of B0."""
    blocks: list[Mobile] = [(3, 32, 16, 0, 1)]
    channels = 16
    for kernel, out, repeats, stride in (
        (3, 24, 2, 2),
        (5, 40, 2, 2),
        (3, 80, 3, 2),
        (5, 112, 3, 1),
        (5, 192, 4, 2),
        (3, 320, 1, 1),
    ):
        for repeat in range(repeats):
            blocks.append((kernel, 6 * channels, out, 0, 1 if repeat else stride))
            channels = out
    first = (size // 2) ** 2 * 9 * 3 * 32
    total, side = _inverted_residuals(size // 2, 32, blocks)
    return Tower(2 * (first + total + side**2 * 320 * 1280), 0, 2 * first)


def mobilenet_v3_large(size: int = 224) -> Tower:
    """MobileNetV3-Large (Howard et al. 2019, table 1): the last product comes after the mean."""
    blocks: list[Mobile] = [
        (3, 16, 16, 0, 1),
        (3, 64, 24, 0, 2),
        (3, 72, 24, 0, 1),
        (5, 72, 40, 24, 2),
        *2 * [(5, 120, 40, 32, 1)],
        (3, 240, 80, 0, 2),
        (3, 200, 80, 0, 1),
        *2 * [(3, 184, 80, 0, 1)],
        (3, 480, 112, 120, 1),
        (3, 672, 112, 168, 1),
        (5, 672, 160, 168, 2),
        *2 * [(5, 960, 160, 240, 1)],
    ]
    first = (size // 2) ** 2 * 9 * 3 * 16
    total, side = _inverted_residuals(size // 2, 16, blocks)
    return Tower(2 * (first + total + side**2 * 160 * 960 + 960 * 1280), 0, 2 * first)


def regnet_x_200mf(size: int = 224) -> Tower:
    """RegNetX-200MF (Radosavovic et al. 2020, table 4): groups of 8 channels."""
    side, channels = size // 2, 32
    first = side**2 * 9 * 3 * 32
    total = first
    for width, depth in ((24, 1), (56, 1), (152, 4), (368, 7)):
        for block in range(depth):
            out = side if block else side // 2
            total += side**2 * channels * width + out**2 * (9 * 8 * width + width**2)
            total += 0 if block else out**2 * channels * width
            side, channels = out, width
    return Tower(2 * total, 0, 2 * first)
