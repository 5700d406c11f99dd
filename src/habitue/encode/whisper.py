"""Whisper's encoder in plain torch, and the reader of the file its weights lie in.

Radford et al. 2022, "Robust speech recognition via large-scale weak supervision", section 2.2: log-mel at 100 frames
a second, two convolutions, the second of stride 2, then blocks of attention and feed-forward with norms before them.
The file is CTranslate2's: a version, the model's name, and each tensor with name, shape, type and bytes.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from habitue.encode.samples import Samples

RATE, SIZE, HOP, BANDS = 16_000, 400, 160, 80
FRAMES_A_SECOND = 50  # of the encoder's output
RANGE = 8.0  # powers of ten that are told apart below the loudest
TYPES: tuple[type[np.generic], ...] = (np.float32, np.int8, np.int16, np.int32, np.float16)


class Encoder:
    """The encoder with its weights; `heads` and widths are read from the file."""

    def __init__(self, path: Path) -> None:
        stored = tensors(path)
        self.heads = int(stored["encoder/num_heads"])
        self.state = {
            name.removeprefix("encoder/"): torch.from_numpy(values.astype(np.float32))
            for name, values in stored.items()
            if name.startswith("encoder/") and values.ndim
        }
        self.layers = sum(name.endswith("/ffn/linear_0/weight") for name in self.state)

    @torch.inference_mode()
    def __call__(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what the encoder makes of log-mels float32[T, 80]: float32[T / 2, D]. O(T^2 D + T D^2)."""
        x = torch.from_numpy(frames).T[None]
        for name, stride in (("conv1", 1), ("conv2", 2)):
            weight, bias = self.state[f"{name}/weight"], self.state[f"{name}/bias"]
            x = functional.gelu(functional.conv1d(x, weight, bias, padding=1, stride=stride))
        x = x.transpose(1, 2)
        x = x + self.state["position_encodings/encodings"][: x.shape[1]]
        for layer in range(self.layers):
            x = x + self._attention(x, f"layer_{layer}/self_attention")
            name = f"layer_{layer}/ffn"
            wide = functional.gelu(self._linear(self._norm(x, name), f"{name}/linear_0"))
            x = x + self._linear(wide, f"{name}/linear_1")
        seen: npt.NDArray[np.float32] = self._norm(x, "")[0].numpy()
        return seen

    def _attention(self, x: Tensor, name: str) -> Tensor:
        _, time, width = x.shape
        three = self._linear(self._norm(x, name), f"{name}/linear_0").chunk(3, dim=-1)
        query, key, value = (part.view(1, time, self.heads, -1).transpose(1, 2) for part in three)
        seen = functional.scaled_dot_product_attention(query, key, value)
        return self._linear(seen.transpose(1, 2).reshape(1, time, width), f"{name}/linear_1")

    def _norm(self, x: Tensor, name: str) -> Tensor:
        place = f"{name}/layer_norm" if name else "layer_norm"
        return functional.layer_norm(x, x.shape[-1:], self.state[f"{place}/gamma"], self.state[f"{place}/beta"])

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self.state[f"{name}/weight"], self.state[f"{name}/bias"])


def log_mel(sound: Samples) -> npt.NDArray[np.float32]:
    """Return float32[N // 160, 80] of a sound at 16 kHz: log10 of power, within RANGE of its loudest, (x + 4) / 4."""
    wide = np.pad(sound, SIZE // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(wide, SIZE)[::HOP][: sound.size // HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(SIZE + 1)[:-1], axis=1)) ** 2
    loud = np.log10(np.maximum(power @ _filters(), 1e-10))
    return np.asarray((np.maximum(loud, loud.max() - RANGE) + 4) / 4, dtype=np.float32)


def tensors(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Return the tensors of a file of CTranslate2 by name; its SHA-256 was checked before."""
    data = path.read_bytes()
    place = 0

    def number(form: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"<{form}", data, place)
        place += struct.calcsize(form)
        return int(value)

    def word() -> str:
        nonlocal place
        length = number("H")
        place += length
        return data[place - length : place].rstrip(b"\0").decode()

    number("I"), word(), number("I")  # versions of the file and of the model, and its name between them
    found: dict[str, npt.NDArray[np.generic]] = {}
    for _ in range(number("I")):
        name = word()
        shape = [number("I") for _ in range(number("B"))]
        kind = np.dtype(TYPES[number("B")])
        length = number("I")
        found[name] = np.frombuffer(data, kind, count=length // kind.itemsize, offset=place).reshape(shape)
        place += length
    return found


@lru_cache(maxsize=1)
def _filters() -> npt.NDArray[np.float64]:
    """Return the triangles of Slaney's Auditory Toolbox (1998), [201, 80]: linear to 1 kHz, then logarithmic."""
    step = np.log(6.4) / 27  # of the logarithmic part, a mel
    highest = 15 + np.log(RATE / 2 / 1_000) / step
    mels = np.linspace(0, highest, BANDS + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1_000 * np.exp(step * (mels - 15)))
    bins = np.arange(SIZE // 2 + 1)[:, None] * RATE / SIZE
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(np.minimum(rise, fall), 0) * 2 / (edges[2:] - edges[:-2]))
