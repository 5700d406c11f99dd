"""EfficientNet-Lite in plain torch: what it takes to read its weights and to export them to ONNX once.

Tan and Le 2019, "EfficientNet", table 1; Lite (Google 2020): no squeeze-and-excitation, ReLU6, stem and head of one
size. Padding is that of TensorFlow ("same"), where the weights come from.
"""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from habitue.core.extras import need

REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks a stage; the first and the last do not grow
STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of a stage
DEPTH = {"lite0": 1.0, "lite1": 1.1, "lite2": 1.2}
SIDE = {"lite0": 224, "lite1": 240, "lite2": 260}  # pixels
SEEN = (3, 5, 7)  # stages after which a grid is read off: strides 8, 16 and 32
EPS = 1e-3  # of batch normalisation
DIMENSION = 1280


class Conv(nn.Module):
    """Convolution with TensorFlow's padding, then batch normalisation folded into it."""

    def __init__(self, weight: Tensor, norm: dict[str, Tensor], *, stride: int, groups: int = 1) -> None:
        super().__init__()
        scale = norm["weight"] / torch.sqrt(norm["running_var"] + EPS)
        self.weight = nn.Parameter(weight * scale[:, None, None, None], requires_grad=False)
        self.bias = nn.Parameter(norm["bias"] - norm["running_mean"] * scale, requires_grad=False)
        self.stride, self.groups, self.kernel = stride, groups, weight.shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        side = x.shape[-1]
        total = max((math.ceil(side / self.stride) - 1) * self.stride + self.kernel - side, 0)
        before, after = total // 2, total - total // 2
        x = functional.pad(x, (before, after, before, after))
        return functional.conv2d(x, self.weight, self.bias, stride=self.stride, groups=self.groups)


class Block(nn.Module):
    """Inverted residual: widen, look around, narrow."""

    def __init__(self, state: dict[str, Tensor], *, stride: int) -> None:
        super().__init__()
        widen = "_expand_conv.weight" in state
        self.expand = Conv(state["_expand_conv.weight"], _norm(state, "_bn0"), stride=1) if widen else None
        depthwise = state["_depthwise_conv.weight"]
        self.around = Conv(depthwise, _norm(state, "_bn1"), stride=stride, groups=len(depthwise))
        self.project = Conv(state["_project_conv.weight"], _norm(state, "_bn2"), stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']; the input is added where the shape stays."""
        wide = functional.relu6(self.expand(x)) if self.expand else x
        y: Tensor = self.project(functional.relu6(self.around(wide)))
        return x + y if x.shape == y.shape else y


class EfficientNet(nn.Module):
    """Pictures to the 1280 numbers before the classes; `classes` gives the 1000 of ImageNet."""

    def __init__(self, state: dict[str, Tensor], size: str) -> None:
        super().__init__()
        self.stem = Conv(state["_conv_stem.weight"], _norm(state, "_bn0"), stride=2)
        counts = [math.ceil(n * DEPTH[size]) if 0 < i < 6 else n for i, n in enumerate(REPEATS)]
        strides = [s if first == 0 else 1 for s, n in zip(STRIDES, counts, strict=True) for first in range(n)]
        blocks = [Block(_under(state, f"_blocks.{i}."), stride=s) for i, s in enumerate(strides)]
        self.blocks = nn.ModuleList(blocks)
        self.head = Conv(state["_conv_head.weight"], _norm(state, "_bn1"), stride=1)
        self.classes = nn.Linear(DIMENSION, len(state["_fc.bias"]))
        self.classes.load_state_dict(_under(state, "_fc."))

        self.ends = {sum(counts[:stage]) - 1 for stage in SEEN}

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8[B, S, S, 3] -> float32[B, 1280]."""
        vectors: Tensor = functional.relu6(self.head(self.grids(pictures)[-1])).mean(dim=(2, 3))
        return vectors

    def grids(self, pictures: Tensor) -> list[Tensor]:
        """uint8[B, S, S, 3] -> what is seen where, at strides 8, 16 and 32: float32[B, 40 | 112 | 320, S/8 ..].

        Pictures are scaled to about -1..1, as the weights were trained.
        """
        x = functional.relu6(self.stem((pictures.permute(0, 3, 1, 2).float() - 127.0) / 128.0))
        seen = []
        for place, block in enumerate(self.blocks):
            x = block(x)
            if place in self.ends:
                seen.append(x)
        return seen


class Grids(nn.Module):
    """`EfficientNet.grids` as a network of its own."""

    def __init__(self, network: EfficientNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """uint8[B, S, S, 3] -> three grids."""
        return tuple(self.network.grids(pictures))


def load(path: Path, size: str) -> EfficientNet:
    """Read published weights; only tensors are unpickled."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    return EfficientNet(state, size).eval()


def export(path: Path, target: Path, size: str) -> None:
    """Write the network as ONNX with a free batch size. About 20 s, once."""
    _export(load(path, size), target, size, ["vectors"])


def export_grids(path: Path, target: Path, size: str) -> None:
    """Write what gives the grids as ONNX with a free batch size. About 20 s, once."""
    _export(Grids(load(path, size)), target, size, ["stride8", "stride16", "stride32"])


def _export(network: nn.Module, target: Path, size: str, outputs: list[str]) -> None:
    need("onnxscript", extra="pictures", purpose="encode.picture")
    example = torch.zeros(2, SIDE[size], SIDE[size], 3, dtype=torch.uint8)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, on its own future
        logger.setLevel(logging.ERROR)  # and that torchvision is absent, as it must be
        torch.onnx.export(
            network.eval(),
            (example,),
            str(target),
            input_names=["pictures"],
            output_names=outputs,
            dynamic_shapes={"pictures": {0: torch.export.Dim("batch", min=1, max=1024)}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    logger.setLevel(level)


def _norm(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return _under(state, f"{name}.")


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
