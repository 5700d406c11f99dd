"""One unit vector per thing, and who made it from what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp


@dataclass(frozen=True)
class Vectors:
    """Rows of `matrix` belong to `ids`, in that order. A thing that could not be encoded keeps a zero row."""

    ids: tuple[str, ...]  # [I]
    matrix: sp.csr_matrix  # [I, D] float32; rows of length 1, or 0 where `encoded` is false
    encoded: npt.NDArray[np.bool_]  # [I]
    encoder: str  # name@version
    sha256: str  # of the encoder, its settings, the ids and the matrix: equal digests, equal vectors

    @property
    def missing(self) -> tuple[str, ...]:
        """The ids without a vector."""
        return tuple(i for i, there in zip(self.ids, self.encoded, strict=True) if not there)
