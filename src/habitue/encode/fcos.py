"""The head of the detector and its lessons: from three grids of a picture to kinds and boxes in every cell.

Tian, Shen, Chen and He, "FCOS: fully convolutional one-stage object detection", ICCV 2019: focal loss for the kinds
(Lin et al. 2017, eq. 5), generalised overlap for the boxes (Rezatofighi et al. 2019, eq. 2), and the nearness to a
box's middle (their eq. 3) that a cell's score is multiplied by.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (40, 112, 320)  # of the grids at strides 8, 16 and 32
WIDTH = 96
CELLS = 14  # of the grid at stride 16
NEAR = 1.5  # cells around a box's middle that learn to tell it
RARE = 0.01  # share of yes a kind begins at (Lin et al. 2017, section 4.1)
Grids = Sequence[npt.NDArray[np.floating]]
Truth = tuple[npt.NDArray[np.floating], npt.NDArray[np.integer]]  # boxes [N, 4] in shares, kinds [N]


class Head(nn.Module):
    """Three grids -> logits of kinds, sides of boxes, nearness to the middle."""

    def __init__(self, kinds: int) -> None:
        super().__init__()
        fine, middle, coarse = CHANNELS
        self.fine = nn.Conv2d(fine, WIDTH, 2, stride=2)
        self.middle = nn.Conv2d(middle, WIDTH, 1)
        self.coarse = nn.Conv2d(coarse, WIDTH, 1)
        self.tower = nn.Sequential(
            *(
                part
                for _ in range(2)
                for part in (nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.GroupNorm(8, WIDTH), nn.ReLU())
            )
        )
        self.kinds = nn.Conv2d(WIDTH, kinds, 1)
        self.sides = nn.Conv2d(WIDTH, 4, 1)
        self.nearness = nn.Conv2d(WIDTH, 1, 1)
        nn.init.constant_(self.kinds.bias, float(np.log(RARE / (1 - RARE))))  # type: ignore[arg-type]

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Grids [B, 40, 28, 28], [B, 112, 14, 14], [B, 320, 7, 7] -> [B, K, cells], [B, cells, 4], [B, cells].

        The four numbers of a cell are the sides of its box (left, top, right, bottom) in shares of the picture.
        """
        above = functional.interpolate(self.coarse(coarse), scale_factor=2.0, mode="nearest")
        x = self.tower(functional.relu(self.fine(fine) + self.middle(middle) + above))
        away = self.sides(x).flatten(2).transpose(1, 2).clamp(-6, 3).exp() * (2 / CELLS)
        at = middles().to(away)
        return (
            self.kinds(x).flatten(2),
            torch.cat([at - away[..., :2], at + away[..., 2:]], -1),
            self.nearness(x).flatten(1),
        )


def middles() -> Tensor:
    """Return [cells, 2]: across and down of each cell's middle, in shares of the picture."""
    line = (torch.arange(CELLS) + 0.5) / CELLS
    down, across = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([across.flatten(), down.flatten()], dim=1)


def assigned(boxes: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each cell the kind it has to tell (-1 = none) and the box [cells, 4].

    A cell tells a box when it lies in it and within NEAR cells of its middle; of several the smallest (section 3.2).
    """
    at = middles()
    inside = ((at[:, None] > boxes[None, :, :2]) & (at[:, None] < boxes[None, :, 2:])).all(-1)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside &= ((at[:, None] - centre[None]).abs() <= NEAR / CELLS).all(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    size, which = torch.where(inside, area, torch.inf).min(dim=1)
    return torch.where(size.isfinite(), kinds[which], -1), boxes[which]


def loss(said: tuple[Tensor, Tensor, Tensor], kind: Tensor, box: Tensor) -> Tensor:
    """Return focal loss + (1 - generalised overlap) + loss of nearness, each a mean over the cells that tell a box."""
    logits, sides, near = said
    tells = kind >= 0
    count = tells.sum().clamp(min=1)
    wanted = functional.one_hot(kind.clamp(min=0), logits.shape[1]) * tells[..., None]
    wanted = wanted.transpose(1, 2).to(logits)
    plain = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    right = torch.where(wanted > 0, logits.sigmoid(), 1 - logits.sigmoid())
    focal = (torch.where(wanted > 0, 0.25, 0.75) * (1 - right) ** 2 * plain).sum() / count
    at = middles().to(box).expand(len(box), -1, -1)[tells]
    one, other = sides[tells], box[tells]
    from_left, from_top = (at - other[:, :2]).unbind(-1)
    to_right, to_bottom = (other[:, 2:] - at).unbind(-1)
    flat = torch.minimum(from_left, to_right) / torch.maximum(from_left, to_right)
    upright = torch.minimum(from_top, to_bottom) / torch.maximum(from_top, to_bottom)
    middle = (flat * upright).clamp(min=0).sqrt()
    nearness = functional.binary_cross_entropy_with_logits(near[tells], middle, reduction="sum") / count
    return focal + (1 - generalised(one, other)).sum() / count + nearness


def generalised(one: Tensor, other: Tensor) -> Tensor:
    """Return [N]: overlap less the empty share of the smallest box around both; 1 = equal, down to -1."""
    both = (torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])).clamp(min=0).prod(-1)
    around = (torch.maximum(one[:, 2:], other[:, 2:]) - torch.minimum(one[:, :2], other[:, :2])).prod(-1)
    union = (one[:, 2:] - one[:, :2]).prod(-1) + (other[:, 2:] - other[:, :2]).prod(-1) - both
    return both / union - (around - union) / around


def learn(
    seen: Sequence[Grids],
    targets: Sequence[Truth],
    kinds: int,
    *,
    passes: int,
    batch: int,
    rate: float,
    seed: int,
    threads: int,
) -> dict[str, npt.NDArray[np.float32]]:
    """Fit a head to pictures whose boxes are known; return its weights. AdamW, one warm-up and a cosine.

    About 20 ms of CPU a picture and pass. The same data, settings and threads give the same weights.
    """
    from habitue.core.progress import steps

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    cells = [assigned(torch.from_numpy(boxes).float(), torch.from_numpy(told).long()) for boxes, told in targets]
    try:
        with torch.random.fork_rng(), steps("Learn to find products") as advance:
            torch.manual_seed(seed)
            head = Head(kinds)
            adam = torch.optim.AdamW(head.parameters(), weight_decay=1e-4)
            total = -(-len(seen) // batch) * passes
            plan = torch.optim.lr_scheduler.OneCycleLR(adam, rate, total_steps=total, pct_start=0.1)
            done = 0
            for _ in range(passes):
                for rows in torch.split(torch.randperm(len(seen)), batch):
                    grids = [torch.from_numpy(np.stack([seen[r][g] for r in rows])).float() for g in range(3)]
                    kind, box = (torch.stack([cells[r][part] for r in rows]) for part in range(2))
                    adam.zero_grad()
                    value = loss(head(*grids), kind, box)
                    value.backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(head.parameters(), 10.0)
                    adam.step()
                    plan.step()
                    done += 1
                    advance(done, total)
    finally:
        torch.set_num_threads(before)
    return {name: tensor.detach().numpy().copy() for name, tensor in head.state_dict().items()}


def restored(weights: dict[str, npt.NDArray[np.float32]], kinds: int) -> Head:
    """Return a head with these weights, ready to answer."""
    head = Head(kinds)
    head.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    return head.eval()


def answer(head: Head, grids: Grids) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return how sure each cell is of each kind [K, cells], and its box [cells, 4] in shares of the picture.

    `grids` are those of one picture, [1, C, H, W] each. Sureness is the root of share x nearness (section 3.2).
    """
    with torch.inference_mode():
        logits, sides, near = head(*(torch.from_numpy(np.asarray(grid, dtype=np.float32)) for grid in grids))
        sure = (logits[0].sigmoid() * near[0].sigmoid()).sqrt()
    return sure.double().numpy(), sides[0].double().numpy()
