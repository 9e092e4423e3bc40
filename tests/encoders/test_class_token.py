"""The class token alone in the last block: the whole tower in float64 is the oracle."""

import pytest
import torch
from torch import nn

from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.huggingface.towers import Projected
from seaanchor.encoders.kernels import activation_checkpointing, fast_kernels
from seaanchor.encoders.kernels.class_token import class_token_layers
from seaanchor.functional.gradients import frozen, input_grad
from seaanchor.profiling.flops import count_flops

VISION = {"image_size": 32, "layers": 3, "width": 48, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}


def openclip(**options):
    import open_clip

    torch.manual_seed(0)
    quick = options.pop("quick_gelu", False)
    return open_clip.CLIP(24, VISION | options, TEXT, quick_gelu=quick).visual


def huggingface(activation="quick_gelu"):
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3}
    config = CLIPVisionConfig(**sizes, image_size=32, patch_size=8, hidden_act=activation)
    return Projected(CLIPVisionModel(config), nn.Linear(48, 24, bias=False))


def timm_tower(name="vit_tiny_patch16_224", **options):
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, img_size=32, num_classes=0, depth=3, **options)


SHORTER = {
    "open_clip": lambda: openclip(),
    "QuickGELU": lambda: openclip(quick_gelu=True),
    "layer scale": lambda: openclip(ls_init_value=0.1),
    "norm after pooling": lambda: openclip(final_ln_after_pool=True),
    "no norm before": lambda: openclip(no_ln_pre=True),
    "Hugging Face": lambda: huggingface(),
    "timm": lambda: timm_tower(),
    "timm, qk norm": lambda: timm_tower(qk_norm=True, init_values=0.1),
    "timm, registers": lambda: timm_tower(reg_tokens=4, no_embed_class=True),
    "DINOv2": lambda: timm_tower("vit_small_patch14_dinov2", patch_size=16),
}
WHOLE = {
    "mean of the patches": lambda: openclip(pool_type="avg"),
    "attention pooling": lambda: openclip(attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=2),
    "tokens, too": lambda: openclip(output_tokens=True),
    "other blocks": lambda: openclip(scale_fc=True),
    "timm, mean": lambda: timm_tower(global_pool="avg", class_token=False),
    "timm, attention pooling": lambda: timm_tower(global_pool="map", class_token=False),
    "timm, no pooling": lambda: timm_tower(global_pool=""),
}


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("name", SHORTER)
def test_embeddings_and_gradients_are_those_of_the_whole_tower(name, learns):
    tower = SHORTER[name]().double().eval().requires_grad_(learns)
    x, v = (
        torch.rand(2, 3, 32, 32, dtype=torch.float64),
        torch.randn(tower(torch.zeros(1, 3, 32, 32).double()).shape[1]),
    )

    def answers():
        tower.zero_grad()
        pixels = x.clone().requires_grad_()
        y = tower(pixels)
        (y * v).sum().backward()  # a square would do nothing: behind a norm it is the same for all images
        return [
            y.detach(),
            pixels.grad,
            *(p.grad if p.grad is not None else torch.zeros(1) for p in tower.parameters()),
        ]

    wanted, kinds = answers(), [type(layer) for layer in tower.modules()]
    with fast_kernels(tower, torch.float64, 16):
        assert any(type(layer).__name__ in ("ClassTokenBlock", "ClassTokenLayer") for layer in tower.modules())
        got = answers()
    assert [type(layer) for layer in tower.modules()] == kinds
    for a, b in zip(wanted, got, strict=True):
        assert (a - b).abs().max() <= 1e-12 * a.abs().max().clamp(min=1e-2)


@pytest.mark.parametrize("name", WHOLE)
def test_towers_that_read_all_tokens_stay_as_they_are(name):
    tower = WHOLE[name]().eval()
    assert list(class_token_layers(tower)) == []


class _AllTokens(nn.Module):
    """Class token and mean of the patches side by side."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        tokens = self.inner.forward_features(x)
        return torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], -1)


def test_a_module_that_asks_such_a_tower_for_all_tokens_gets_them():
    encoder = Encoder(_AllTokens(timm_tower()), 32).eval()
    x = torch.rand(2, 3, 32, 32)
    wanted = encoder(x)
    with fast_kernels(encoder, torch.float32, 4):
        got = encoder(x)
    assert (wanted - got).abs().max() <= 2e-6 * wanted.abs().max()


@pytest.mark.parametrize("tokens", ["class", "mean", "patches"])
@pytest.mark.parametrize("tower", [openclip, huggingface, timm_tower])
def test_tokens_that_are_read_by_name_are_all_there(tower, tokens):
    encoder = Encoder(tower(), 32, tokens=tokens).eval()
    x = torch.rand(2, 3, 32, 32)
    wanted = encoder(x)
    with fast_kernels(encoder, torch.float32, 16):
        got = encoder(x)
    assert wanted.shape == got.shape and (wanted - got).abs().max() <= 2e-6 * wanted.abs().max()


def test_a_hook_on_the_last_block_sees_all_tokens():
    tower, seen = openclip().eval(), []
    tower.transformer.resblocks[-1].register_forward_hook(lambda block, inputs, output: seen.append(output.shape))
    with fast_kernels(tower, torch.float32, 16):
        tower(torch.rand(2, 3, 32, 32))
    assert seen == [(2, 17, 48)]


@pytest.mark.parametrize("tower", [openclip, huggingface, timm_tower])
def test_activations_computed_again_go_through_the_librarys_loop(tower):
    encoder = Encoder(tower(), 32).train()
    x, weights = torch.rand(2, 3, 32, 32), list(encoder.parameters())
    v = torch.randn(encoder.dim)
    wanted = torch.autograd.grad((encoder(x) @ v).sum(), weights, allow_unused=True)
    with fast_kernels(encoder, torch.float32, 16), activation_checkpointing(encoder):
        got = torch.autograd.grad((encoder(x) @ v).sum(), weights, allow_unused=True)
    largest = max(float(a.abs().max()) for a in wanted if a is not None)
    for a, b in zip(wanted, got, strict=True):
        assert (a is None) == (b is None) and (a is None or (a - b).abs().max() <= 1e-5 * largest)


def test_the_operations_that_are_saved_are_those_counted_by_hand():
    """In 2·w² a token a block has 3 for queries, keys and values, 1 for the projection and 8 for the MLP. All but keys
    and values are for one token of 17."""
    tower, pixels, width = openclip().eval(), torch.rand(2, 3, 32, 32), 48

    def step():
        with frozen(tower):
            return input_grad(lambda p: ((y := tower(p)).sum(-1), y), pixels)

    whole = count_flops(step)[0]
    with fast_kernels(tower, torch.float32, 16):
        short = count_flops(step)[0]
    products = 2 * (2 * width**2) * 10 * 16  # forward and gradient
    attention = (1 + 2) * (4 * width * 17) * 16  # two products with two inputs each
    assert whole - short == 2 * (products + attention)
