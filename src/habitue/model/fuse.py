"""How the views of one product become one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Sum(nn.Module):
    """id embedding + projected content: what the words say, and what only sales can tell.

    A product without sales keeps the id vector it starts with, zero, so its content speaks for it.
    """

    def __init__(self, items: int, content: int, width: int, *, sold: Tensor) -> None:
        super().__init__()
        self.identity = nn.Parameter(0.02 * torch.randn(items, width) * sold[:, None])
        self.project = nn.Linear(content, width, bias=False)
        nn.init.normal_(self.project.weight, std=0.05)

    def forward(self, content: Tensor) -> Tensor:
        """Return the table [I, D] from content [I, C]."""
        table: Tensor = self.identity + self.project(content)
        return table
