"""The class token alone in the last layer of Hugging Face's CLIP; see `class_token`.

Legend: B batch, T tokens, E width of the tower, H heads, D width of a head.
"""

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from seaanchor.encoders.huggingface.towers import Pooled, Projected
from seaanchor.encoders.kernels.class_token import is_watched

TOWERS = ("CLIPVisionModel", "CLIPVisionTransformer")  # the same in newer and older versions


class ClassTokenLayer(CLIPEncoderLayer):
    """The same layer, which gives the class token alone."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """(B, T, E) → (B, 1, E)."""
        if attention_mask is not None:
            return super().forward(hidden_states, attention_mask, **kwargs)
        attention, normed_BTE = self.self_attn, self.layer_norm1(hidden_states)

        def heads(mixed_BTE: Tensor) -> Tensor:
            return mixed_BTE.view(*mixed_BTE.shape[:2], attention.num_heads, attention.head_dim).transpose(1, 2)

        mixed_BH1D = F.scaled_dot_product_attention(
            heads(attention.q_proj(normed_BTE[:, :1])),
            heads(attention.k_proj(normed_BTE)),
            heads(attention.v_proj(normed_BTE)),
            dropout_p=attention.dropout if self.training else 0.0,
            scale=attention.scale,
        )
        token_B1E = hidden_states[:, :1] + attention.out_proj(mixed_BH1D.transpose(1, 2).flatten(2))
        return token_B1E + self.mlp(self.layer_norm2(token_B1E))


def layers(tower: Any) -> Iterator[tuple[nn.Module, type[nn.Module]]]:
    """The last layer of a tower that takes nothing but the class token from its model, with its class; nothing for
    another."""
    if type(tower) not in (Projected, Pooled):
        return
    model = tower.vision_model
    if type(model).__name__ not in TOWERS or model.config._attn_implementation != "sdpa":
        return
    last = model.encoder.layers[-1]
    if type(last) is CLIPEncoderLayer and not is_watched(last):
        yield last, ClassTokenLayer
