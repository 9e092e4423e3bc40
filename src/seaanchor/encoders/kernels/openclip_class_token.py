"""The class token alone in the last block of OpenCLIP's vision transformers; see `class_token`.

Legend: B batch, C channels, H W pixels, T tokens, E width of the tower, D embedding dimension.
"""

from collections.abc import Iterator
from typing import Any

from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from seaanchor.encoders.kernels.class_token import is_watched


class ClassTokenTower(VisionTransformer):
    """The same tower, whose last block is asked for the class token alone; activations that are computed again go
    through the library's own loop."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pixels (B, C, H, W) → embeddings (B, D)."""
        if self.transformer.grad_checkpointing:
            return super().forward(x)
        tokens_BTE, (*blocks, last) = self._embeds(x), self.transformer.resblocks
        for block in blocks:
            tokens_BTE = block(tokens_BTE)
        pooled_BE, _ = self._pool(last(tokens_BTE, class_token_alone=True))
        return pooled_BE if self.proj is None else pooled_BE @ self.proj


class ClassTokenBlock(ResidualAttentionBlock):
    """The same block, which gives the class token alone where it is asked to."""

    def forward(self, q_x: Tensor, *args: Any, class_token_alone: bool = False, **kwargs: Any) -> Tensor:
        """(B, T, E) → (B, T, E), or (B, 1, E)."""
        if not class_token_alone:
            return super().forward(q_x, *args, **kwargs)
        normed_BTE = self.ln_1(q_x)
        token_B1E = q_x[:, :1] + self.ls_1(self.attention(normed_BTE[:, :1], normed_BTE, normed_BTE))
        return token_B1E + self.ls_2(self.mlp(self.ln_2(token_B1E)))


def layers(tower: nn.Module) -> Iterator[tuple[nn.Module, type[nn.Module]]]:
    """A tower of the kind above and its last block, with their classes; nothing for another."""
    if type(tower) is not VisionTransformer or tower.output_tokens or tower.attn_pool is not None:
        return
    if tower.pool_type != "tok" or not tower.transformer.batch_first:
        return
    last = tower.transformer.resblocks[-1]
    if type(last) is ResidualAttentionBlock and not is_watched(last) and not is_watched(tower.ln_post):
        yield tower, ClassTokenTower
        yield last, ClassTokenBlock
