"""What a sound is, as 512 numbers: the network of AI SFX, taught on nine libraries of sound effects.

Ma et al. 2022, "Representation learning for the automatic indexing of sound effects libraries" (ISMIR): four blocks
of two convolutions on log-mel blocks of 100 frames; weights `audio-aisfx` (CC BY 4.0, Alison B. Ma and others). The
log-mel is our own: Hann, 2,048 samples, hop 1,024 at 44.1 kHz, 96 HTK mel bands, log10(1 + 10,000 x power).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue.encode import spectra, weights
from habitue.encode.samples import Samples, decoded, hears
from habitue.encode.things import check
from habitue.encode.vectors import Dense, Encoder, Refusal, Vectors, collected, unit

MEDIUM = "audio"  # content.py
NAME = "audio-aisfx"
DIMENSION = 512
RATE, SIZE, HOP, BANDS = 44_100, 2_048, 1_024, 96
BLOCK = 100  # frames, 2.3 s: what the network was taught on
LOUDEST = 9.457798957824707  # of the log-mels it was taught on; they were divided by it


@dataclass(frozen=True)
class Config:
    """How sounds become vectors. Raises SettingsError for settings that make no sense."""

    seconds: float = 10.0  # of a longer sound only the start is heard
    workers: int = 2  # threads that decode

    def __post_init__(self) -> None:
        """Refuse settings that would hear nothing."""
        hears(self.seconds, self.workers, where="encode.sound.Config")


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its sound."""
    return Encoder("sound.aisfx@1", DIMENSION, {"seconds": config.seconds}, weights.named(NAME).files[0].sha256)


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one unit row per thing (id and path or bytes): the mean over its blocks of 2.3 s; float32[I, 512].

    A sound that is broken, silent, shorter than 20 ms or none gets a reason, not a row. Each sound passes the network
    alone, so that its vector does not depend on its neighbours. Raises MissingExtraError without the extra "sound",
    ModelError without the weights.
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.sound")
    loaded = network(weights.path(NAME)) if things.height else None
    seen = decoded(things, blocks, rate=RATE, seconds=config.seconds, workers=config.workers)
    rows = ((place, made if isinstance(made, Refusal) else run(loaded, made)) for place, made in seen)
    return collected(things["id"].to_list(), encoder(config), rows)


def blocks(sound: Samples) -> Dense:
    """Return log-mels as the network reads them, float32[blocks, 100, 96]; what is left over counts from half a block.

    The sound is brought to full scale first, as it was for the network's lessons.
    """
    loud = spectra.mel(sound / np.abs(sound).max(), rate=RATE, size=SIZE, hop=HOP, bands=BANDS, low=0.0, high=RATE / 2)
    scaled = np.log10(1 + 10_000 * loud) / LOUDEST
    count = max(1, round(len(scaled) / BLOCK))
    whole = np.zeros((count * BLOCK, BANDS), dtype=np.float32)
    whole[: len(scaled)] = scaled[: len(whole)]
    return whole.reshape(count, BLOCK, BANDS)


def run(loaded: Any, ready: Dense) -> Dense:
    """Return the unit mean of what the network makes of `blocks` of one sound, float32[512]."""
    import torch

    with torch.inference_mode():
        rows = [loaded(torch.from_numpy(block[None, None])).numpy()[0] for block in ready]
    row: Dense = unit(np.mean(rows, axis=0)[None])[0]
    return row


@lru_cache(maxsize=1)
def network(path: Path) -> Any:
    """Return the network with its weights; only tensors and plain numbers are unpickled."""
    import torch
    from torch import nn

    allowed: list[Any] = [
        (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),  # by the name it had when they were saved
        np.dtype,
        np.dtypes.Int64DType,
        np.dtypes.Float64DType,
    ]
    with torch.serialization.safe_globals(allowed):
        state, _ = torch.load(path, weights_only=True, map_location="cpu")
    layers: list[nn.Module] = []
    for block in (1, 2, 3, 4):
        for half in (1, 2):
            name = f"embedding_net.conv_block{block}"
            weight = state[f"{name}.conv{half}.weight"]
            convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
            convolution.load_state_dict({"weight": weight})
            norm = nn.BatchNorm2d(weight.shape[0])
            norm.load_state_dict({k: state[f"{name}.bn{half}.{k}"] for k in norm.state_dict()})
            layers += [convolution, norm, nn.ReLU()]
        if block < 4:
            layers.append(nn.MaxPool2d(2))

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*layers)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """float32[B, 1, 100, 96] -> [B, 512]: mean over frequency, greatest over time."""
            pooled: torch.Tensor = self.layers(x).mean(dim=3).amax(dim=2)
            return pooled

    return Pooled().eval()
