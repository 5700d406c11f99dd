"""Sparse matrices as files that are mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

CSR = ("data", "indices", "indptr")


def write_sparse(path: Path, matrix: Any) -> None:
    """Write a sparse matrix as plain arrays beside each other."""
    for part in CSR:
        np.save(path.with_name(f"{path.name}-{part}.npy"), getattr(matrix, part))
    np.save(path.with_name(f"{path.name}-shape.npy"), np.array(matrix.shape, dtype=np.int64))


def sparse(path: Path, kind: Any) -> Any:
    """Map what `write_sparse` wrote."""
    parts = tuple(np.load(path.with_name(f"{path.name}-{part}.npy"), mmap_mode="r") for part in CSR)
    return kind(parts, shape=tuple(np.load(path.with_name(f"{path.name}-shape.npy"))), copy=False)
