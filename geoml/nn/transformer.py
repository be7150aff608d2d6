"""A transformer encoder block that takes a mask of the tokens it may look at.

Vaswani et al.: Attention Is All You Need. NeurIPS 2017, https://arxiv.org/abs/1706.03762; norms come first.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Every token looks at those that are seen."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "sequence token width"], seen: Bool[Tensor, "sequence token"] | None
    ) -> Float[Tensor, "sequence token width"]:
        split = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if seen is None else seen[:, None, None]
        found = F.scaled_dot_product_attention(split[0], split[1], split[2], attn_mask=mask)
        out: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Two layers with GELU between them, for each token alone."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "sequence token width"]) -> Float[Tensor, "sequence token width"]:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each added to what comes in; tokens that are not ``seen`` change no other."""

    def __init__(self, width: int, heads: int, ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, ratio * width)

    def forward(
        self, x: Float[Tensor, "sequence token width"], seen: Bool[Tensor, "sequence token"] | None = None
    ) -> Float[Tensor, "sequence token width"]:
        x = x + self.attn(self.norm1(x), seen)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out
