"""Runs inside the environment of RecTools with torch: python drive_rectools_lists.py GIVEN.npz WINDOW COUNT REPEATS.

Prints how many users there are and the CPU-seconds of each repeat of `recommend` for all of them: COUNT items of the
whole catalogue, what they had left out, by its SASRec (width 64, 2 heads, 2 blocks) after a few steps of training,
which are not timed: how fast it answers does not depend on how well it knows.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import torch
from drive_rectools import events_of, peak_mb
from pytorch_lightning import Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

STEPS = 3


def main(given: str, window: int, count: int, repeats: int) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    fit = events_of(given)
    learnt = Dataset.construct(fit)
    model = SASRecModel(
        n_factors=64,
        n_blocks=2,
        n_heads=2,
        session_max_len=window,
        loss="BCE",
        batch_size=128,
        recommend_torch_device="cpu",
        get_trainer_func=lambda: Trainer(
            max_steps=STEPS, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
        ),
    )
    model.fit(learnt)
    users = fit[Columns.User].unique()
    spent = []
    for _ in range(repeats):
        begun = time.process_time()
        model.recommend(users, learnt, k=count, filter_viewed=True)
        spent.append(time.process_time() - begun)
    print(json.dumps({"users": len(users), "cpu_s": spent, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(sys.argv[1], *(int(number) for number in sys.argv[2:]))
