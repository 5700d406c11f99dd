"""Sounds: with noise, shifted, stretched, louder or softer; float32[N] in and out, samples of -1 to 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
CLEAR, UNCLEAR = 30.0, 10.0  # decibels that the sound lies above the noise
MOVED = 0.1  # of the length, at most
FASTER = 1.15  # how much faster, or slower, at most
LOUDER = 6.0  # decibels at most
GRAIN = 1024  # samples of a piece that is laid anew when a sound is stretched


def noise(samples: Samples, rng: np.random.Generator) -> Samples:
    """Add white noise, UNCLEAR to CLEAR decibels below the sound's own power. Silence stays silence."""
    power = float(np.square(samples, dtype=np.float64).mean()) if samples.size else 0.0
    deep = np.sqrt(power / 10 ** (rng.uniform(UNCLEAR, CLEAR) / 10))
    return _samples(samples + rng.standard_normal(samples.size) * deep)


def shift(samples: Samples, rng: np.random.Generator) -> Samples:
    """Begin up to a tenth of the length earlier or later; what is missing is silence."""
    most = int(MOVED * samples.size)
    by = int(rng.integers(-most, most + 1))
    made = np.zeros_like(samples)
    if by >= 0:
        made[by:] = samples[: samples.size - by]
    else:
        made[:by] = samples[-by:]
    return made


def stretch(samples: Samples, rng: np.random.Generator) -> Samples:
    """Say it faster or slower at the same pitch: pieces under a Hann window, laid closer or wider, each where it fits.

    Verhelst and Roelands 1993 ("WSOLA"). The length changes by up to FASTER.
    """
    rate = float(np.exp(rng.uniform(-np.log(FASTER), np.log(FASTER))))
    hop, near = GRAIN // 2, GRAIN // 4
    if samples.size < 2 * GRAIN:
        return samples.copy()
    window = np.hanning(GRAIN + 1)[:-1]
    count = int((samples.size - GRAIN - near) / (hop * rate))
    made, weight = np.zeros(count * hop + GRAIN), np.zeros(count * hop + GRAIN)
    wide = np.pad(samples.astype(np.float64), near)
    start = 0
    for n in range(count + 1):
        meant = round(n * hop * rate)
        if n:
            wanted = wide[start + hop : start + hop + GRAIN]
            place = wide[meant : meant + 2 * near + GRAIN]
            if wanted.size == GRAIN and place.size >= GRAIN:
                meant += int(np.correlate(place, wanted, "valid").argmax())
        start = min(meant, wide.size - GRAIN)
        made[n * hop : n * hop + GRAIN] += wide[start : start + GRAIN] * window
        weight[n * hop : n * hop + GRAIN] += window
    return _samples(made / np.maximum(weight, 1e-3))


def gain(samples: Samples, rng: np.random.Generator) -> Samples:
    """Make it up to LOUDER decibels louder or softer, without going over 1."""
    factor = 10 ** (rng.uniform(-LOUDER, LOUDER) / 20)
    loudest = float(np.abs(samples).max(initial=0.0))
    return _samples(samples * min(factor, 1 / loudest if loudest > 1e-9 else factor))


METHODS: Mapping[str, Callable[[Samples, np.random.Generator], Samples]] = {
    one.__name__: one for one in (noise, shift, stretch, gain)
}


def _samples(values: npt.NDArray[np.floating]) -> Samples:
    return np.asarray(values.clip(-1, 1).astype(np.float32))
