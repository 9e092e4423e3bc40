"""The class token alone in the last block of timm's vision transformers; see `class_token`.

Legend: B batch, C channels, H W pixels, T tokens, E width of the tower, H heads, D width of a head.
"""

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from seaanchor.encoders.kernels.class_token import is_watched


class ClassTokenTower(VisionTransformer):
    """The same tower, whose last block is asked for the class token alone; activations that are computed again go
    through the library's own loop."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Normalised pixels (B, C, H, W) → embeddings (B, E), or logits."""
        if args or any(kwargs.values()) or self.grad_checkpointing:
            return super().forward(x, *args, **kwargs)
        tokens_BTE = self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(x))))
        for block in self.blocks[:-1]:
            tokens_BTE = block(tokens_BTE)
        return self.forward_head(self.norm(self.blocks[-1](tokens_BTE, class_token_alone=True)))


class ClassTokenBlock(Block):
    """The same block, which gives the class token alone where it is asked to."""

    def forward(self, x: Tensor, *args: Any, class_token_alone: bool = False, **kwargs: Any) -> Tensor:
        """(B, T, E) → (B, T, E), or (B, 1, E)."""
        if not class_token_alone:
            return super().forward(x, *args, **kwargs)
        attended_B1E = self.attn(self.norm1(x), class_token_alone=True)
        token_B1E = x[:, :1] + self.drop_path1(self.ls1(attended_B1E))
        return token_B1E + self.drop_path2(self.ls2(self.mlp(self.norm2(token_B1E))))


class ClassTokenAttention(Attention):
    """The same attention, with the class token's query alone where it is asked to."""

    def forward(self, x: Tensor, *args: Any, class_token_alone: bool = False, **kwargs: Any) -> Tensor:
        """(B, T, E) → (B, T, E), or (B, 1, E)."""
        if not class_token_alone:
            return super().forward(x, *args, **kwargs)
        batch, tokens, _ = x.shape
        heads = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        query_BHTD, key_BHTD, value_BHTD = heads.unbind()
        query_BH1D, key_BHTD = self.q_norm(query_BHTD[:, :, :1]), self.k_norm(key_BHTD)
        dropout = self.attn_drop.p if self.training else 0.0
        mixed_BH1D = F.scaled_dot_product_attention(query_BH1D, key_BHTD, value_BHTD, dropout_p=dropout)
        return self.proj_drop(self.proj(self.norm(mixed_BH1D.transpose(1, 2).reshape(batch, 1, self.attn_dim))))


def layers(tower: nn.Module) -> Iterator[tuple[nn.Module, type[nn.Module]]]:
    """A tower of the kind above, its last block and that one's attention, with their classes; nothing for another."""
    if type(tower) is not VisionTransformer or tower.global_pool != "token" or tower.attn_pool is not None:
        return
    if tower.cls_token is None or len(tower.blocks) == 0:
        return
    last = tower.blocks[-1]
    plain = type(last) is Block and type(last.attn) is Attention and last.attn.gate is None and last.attn.fused_attn
    if plain and not is_watched(last) and not is_watched(tower.norm):
        yield tower, ClassTokenTower
        yield last, ClassTokenBlock
        yield last.attn, ClassTokenAttention
