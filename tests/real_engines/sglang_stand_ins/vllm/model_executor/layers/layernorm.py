"""RMS norm, fused with the addition of the residual as its callers expect."""

from __future__ import annotations

import torch


class RMSNorm(torch.nn.Module):
    def __init__(self, hidden_size: int, eps: float = 1e-6, **_: object) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.variance_epsilon = eps
        self.weight = torch.nn.Parameter(torch.ones(hidden_size))

    def forward(
        self, x: torch.Tensor, residual: torch.Tensor | None = None, **_: object
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        wide = x.float() if residual is None else x.float() + residual.float()
        mean_square = wide.pow(2).mean(-1, keepdim=True)
        normed = (wide * torch.rsqrt(mean_square + self.variance_epsilon)).to(x.dtype)
        scaled = normed * self.scale()
        return scaled if residual is None else (scaled, wide.to(x.dtype))

    def scale(self) -> torch.Tensor:
        return self.weight


class GemmaRMSNorm(RMSNorm):
    def scale(self) -> torch.Tensor:
        return 1 + self.weight
