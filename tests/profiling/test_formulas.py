"""Operations of single operators against numbers worked out by hand, and the same however an operator is written.

Legend: B batch, C channels, H W pixels, T tokens, D width of a head.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from seaanchor.profiling.flops import count_flops
from seaanchor.profiling.op_counter import Meter


def both_counts(run) -> set[int]:
    """As `--dry-run` counts, and as `--dry-run-on` does."""
    with Meter() as meter:
        run()
    return {count_flops(run)[0], meter.work.total}


# images, then: layer, places of the outputs (of a transposed layer: of the inputs), products at each of them
CONVOLUTIONS = {
    "plain": (nn.Conv2d(6, 4, 3, padding=1), 8 * 7, 4 * 6 * 9),
    "grouped": (nn.Conv2d(6, 4, 3, padding=1, groups=2), 8 * 7, 4 * 3 * 9),
    "depthwise": (nn.Conv2d(6, 6, 3, padding=1, groups=6), 8 * 7, 6 * 9),
    "depthwise, two outputs a channel": (nn.Conv2d(6, 12, 3, padding=1, groups=6), 8 * 7, 12 * 9),
    "strided": (nn.Conv2d(6, 4, 3, stride=2, padding=1), 4 * 4, 4 * 6 * 9),
    "patches": (nn.Conv2d(6, 4, 2, stride=2), 4 * 3, 4 * 6 * 4),
    "dilated": (nn.Conv2d(6, 4, 3, dilation=2, padding=1), 6 * 5, 4 * 6 * 9),
    "transposed": (nn.ConvTranspose2d(6, 4, 3, stride=2), 8 * 7, 6 * 4 * 9),
    "transposed, grouped": (nn.ConvTranspose2d(6, 4, 3, groups=2), 8 * 7, 6 * 2 * 9),
    "1d": (nn.Conv1d(6, 4, 5, padding=2), 8, 4 * 6 * 5),
    "1d, depthwise": (nn.Conv1d(6, 6, 5, padding=2, groups=6), 8, 6 * 5),
    "1d, transposed": (nn.ConvTranspose1d(6, 4, 2, stride=2), 8, 6 * 4 * 2),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_by_hand(name):
    """Two images; padding is multiplied as pixels are. The gradient to the inputs and that to the weights each take the
    products of the forward, and the bias takes none."""
    layer, places, products = CONVOLUTIONS[name]
    x = torch.randn(2, 6, *(8, 7)[: layer.weight.dim() - 2])
    once = 2 * 2 * places * products
    assert both_counts(lambda: torch.no_grad()(layer)(x)) == {once}
    x.requires_grad_()
    for wanted, passes in (([x], 2), ([layer.weight], 2), ([x, layer.weight], 3), ([layer.bias], 1)):
        assert both_counts(lambda wanted=wanted: torch.autograd.grad(layer(x).sum(), wanted)) == {passes * once}


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (4, 2, 3, 5), (5,)], ids=str)
def test_linear_by_hand(shape):
    layer, x = nn.Linear(5, 7), torch.randn(shape, requires_grad=True)
    once = 2 * x.numel() * 7
    assert both_counts(lambda: torch.no_grad()(layer)(x)) == {once}
    assert both_counts(lambda: torch.autograd.grad(layer(x).sum(), x)) == {2 * once}
    if len(shape) > 1:  # of a single row the gradient to the weights is no product
        assert both_counts(lambda: layer(x).sum().backward()) == {3 * once}


def test_products_by_hand():
    a, b, v = torch.randn(4, 3, 5, requires_grad=True), torch.randn(4, 5, 7, requires_grad=True), torch.randn(5)
    once = 2 * 4 * 3 * 5 * 7
    for product in (
        torch.bmm,
        torch.matmul,
        partial(torch.einsum, "bij,bjk->bik"),
        partial(torch.baddbmm, torch.ones(4, 3, 7)),
    ):
        assert both_counts(lambda product=product: product(a, b)) == {once}
        assert both_counts(lambda product=product: product(a, b).sum().backward()) == {3 * once}
    assert both_counts(lambda: a[0] @ v) == {2 * 3 * 5}
    assert both_counts(lambda: torch.addmv(torch.ones(3), a[0], v)) == {2 * 3 * 5}
    assert both_counts(lambda: torch.dot(v, v)) == {2 * 5}


WAYS = [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_attention_by_hand(way, causal):
    """Queries of 6 tokens, keys of 9, two images of three heads of width 8: scores, and their product with the values.
    Both have two inputs, so the gradient takes two forwards, whichever kernel computes it and whatever that computes
    again; half of it masked away counts all the same."""
    query, key, value = (torch.randn(2, 3, tokens, 8, requires_grad=True) for tokens in (6, 9, 9))
    once = 2 * 2 * 3 * (6 * 9 * 8 + 6 * 9 * 8)

    def attend():
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)

    with sdpa_kernel(way):
        assert both_counts(torch.no_grad()(attend)) == {once}
        assert both_counts(lambda: attend().sum().backward()) == {3 * once}


def test_attention_of_heads_that_share_keys_by_hand():
    query, key = torch.randn(2, 6, 5, 8), torch.randn(2, 3, 5, 8)
    run = partial(F.scaled_dot_product_attention, query, key, key, enable_gqa=True)
    for way in WAYS:
        with sdpa_kernel(way):
            assert both_counts(run) == {2 * 2 * 2 * 6 * 5 * 5 * 8}


def test_a_layer_of_attention_by_hand():
    """Four projections and two inner products, whether torch's fast path would take it or not."""
    layer, x = nn.MultiheadAttention(12, 3, batch_first=True), torch.randn(2, 5, 12)
    once = 2 * 2 * 5 * 12 * 4 * 12 + 2 * 2 * 2 * 5 * 5 * 12
    assert count_flops(lambda: layer.eval()(x, x, x, need_weights=False))[0] == once
    assert count_flops(lambda: torch.no_grad()(layer.eval())(x, x, x, need_weights=False))[0] == once


class PatchProduct(torch.autograd.Function):
    """A convolution whose kernel is its stride, as a product with gradients written by hand."""

    @staticmethod
    def forward(ctx, x_BCHW: Tensor, weight: Tensor) -> Tensor:
        size = weight.shape[-1]
        rows = F.unfold(x_BCHW, size, stride=size).transpose(1, 2)
        ctx.save_for_backward(rows, weight)
        ctx.size = x_BCHW.shape[-2:]
        return rows @ weight.flatten(1).t()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        size = weight.shape[-1]
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = F.fold((grad @ weight.flatten(1)).transpose(1, 2), ctx.size, size, stride=size)
        if ctx.needs_input_grad[1]:
            to_weight = (grad.flatten(0, 1).t() @ rows.flatten(0, 1)).view_as(weight)
        return to_x, to_weight


def test_an_operator_written_anew_counts_as_the_one_it_stands_for():
    """A function with its own backward is counted by what it runs: the patch embedding is the same as a convolution and
    as a product, forward and for each gradient."""
    weight, x = torch.randn(4, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 8, 8, requires_grad=True)
    ways = partial(F.conv2d, stride=4), PatchProduct.apply
    torch.testing.assert_close(ways[1](x, weight).transpose(1, 2), ways[0](x, weight).flatten(2))
    once = 2 * 2 * 4 * (4 * 3 * 16)
    for way in ways:
        assert both_counts(lambda way=way: torch.no_grad()(way)(x, weight)) == {once}
        # what wants no gradient is frozen, as in an attack: a function of one's own is not told what `grad` asks for
        for of_x, of_weight in ((True, False), (False, True), (True, True)):
            inputs = x.detach().requires_grad_(of_x), weight.detach().requires_grad_(of_weight)
            passes = 1 + of_x + of_weight
            assert both_counts(lambda way=way, inputs=inputs: way(*inputs).square().sum().backward()) == {passes * once}


def test_a_compiled_function_counts_as_the_plain_one():
    layer, x = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.GELU(), nn.Flatten(), nn.Linear(64, 5)), torch.randn(2, 3, 8, 8)
    compiled = torch.compile(layer, backend="aot_eager")
    plain = count_flops(lambda: layer(x).sum().backward())[0]
    assert count_flops(lambda: compiled(x).sum().backward())[0] == plain
    compiled(x).sum().backward()  # compiled now
    assert count_flops(lambda: compiled(x).sum().backward())[0] == plain


def test_what_is_computed_again_counts_again():
    """Recomputed activations are work of the step, other than what a kernel computes again within itself."""
    layer, x = nn.Linear(5, 7), torch.randn(3, 5, requires_grad=True)
    again = partial(torch.utils.checkpoint.checkpoint, layer, x, use_reentrant=False)
    assert both_counts(lambda: again().sum().backward()) == {3 * 2 * 3 * 5 * 7}
    deep = nn.Sequential(layer, nn.Tanh(), nn.Linear(7, 2))
    again = partial(torch.utils.checkpoint.checkpoint, deep, x, use_reentrant=False)
    plain = 3 * (2 * 3 * 5 * 7 + 2 * 3 * 7 * 2)
    assert both_counts(lambda: again().sum().backward()) == {plain + 2 * 3 * 5 * 7}
