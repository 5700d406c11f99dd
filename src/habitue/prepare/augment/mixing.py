"""Mixed samples: two rows of training and their answers, drawn together in one share.

Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018, equation 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def mixed(rows: Floats, answers: Floats, rng: np.random.Generator, *, alpha: float = 0.2) -> tuple[Floats, Floats]:
    """Return as many rows [N, P] and answers [N, A] again: share x one + (1 - share) x another, drawn by chance.

    The share of each pair is drawn from Beta(alpha, alpha): near 0 or 1 for a small `alpha`. Answers that sum to 1
    still do.
    """
    other = rng.permutation(len(rows))
    share = rng.beta(alpha, alpha, (len(rows), 1))
    return (
        np.asarray((share * rows + (1 - share) * rows[other]).astype(rows.dtype)),
        np.asarray((share * answers + (1 - share) * answers[other]).astype(answers.dtype)),
    )
