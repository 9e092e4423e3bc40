"""Pixels at the right and lower edge that a tower does not read, because its patches do not fill the image."""

from torch import nn

from seaanchor.encoders.encoder import Encoder
from seaanchor.errors import note
from seaanchor.utils.text import plural


def tell_unread(encoder: Encoder) -> None:
    """Say in a note how many rows and columns the first convolution of a tower leaves out, as timm and OpenCLIP do in
    silence where an image's side is no multiple of the patches'."""
    layers = list(encoder.library_tower.modules())
    first = next((layer for layer in layers if isinstance(layer, nn.Conv2d)), None)
    if first is None or any(getattr(layer, "dynamic_img_pad", False) for layer in layers):
        return
    unread, stride = unread_pixels(first, encoder.image_size), first.stride[0]
    if unread:
        read = encoder.image_size - unread
        sizes = " or ".join(f"{side}" for side in (read, read + stride) if side >= first.kernel_size[0])
        note(
            f"of images of {encoder.image_size} pixels the tower leaves the last {plural(unread, 'row')} and "
            f"{plural(unread, 'column')} out, as its patches begin every {stride} pixels; it reads all of --image-size "
            f"{sizes}"
        )


def unread_pixels(layer: nn.Conv2d, side: int) -> int:
    """Rows, and columns, at the end of a square that a convolution does not read; 0 for kinds that pad by themselves.

    >>> unread_pixels(nn.Conv2d(3, 8, 16, 16), 65), unread_pixels(nn.Conv2d(3, 8, 7, 2, padding=3), 64)
    (1, 0)
    """
    if type(layer) is not nn.Conv2d or isinstance(layer.padding, str):
        return 0
    size, stride, padding = layer.dilation[0] * (layer.kernel_size[0] - 1) + 1, layer.stride[0], layer.padding[0]
    return max(0, (side + 2 * padding - size) % stride - padding)
