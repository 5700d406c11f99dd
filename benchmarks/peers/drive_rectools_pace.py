"""Runs inside the environment of RecTools with torch: python drive_rectools_pace.py GIVEN.npz LOSS WINDOW STEPS.

Prints targets a step and CPU-seconds a step of its SASRec (width 64, 2 heads, 2 blocks, batches of 128 users): the
difference between a fit of some steps and one of STEPS more, so that building and starting are not counted.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np
import torch
from drive_rectools import events_of
from pytorch_lightning import Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

WARM = 5
USERS = 128  # a step


def main(given: str, loss: str, window: int, steps: int) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    fit = events_of(given)
    events = fit.groupby(Columns.User).size().to_numpy()
    events = events[events > 1]
    learnt = Dataset.construct(fit)
    spent = []
    for count in (WARM, WARM + steps):
        model = SASRecModel(
            n_factors=64,
            n_blocks=2,
            n_heads=2,
            session_max_len=window,
            loss=loss,
            n_negatives=32,
            batch_size=USERS,
            get_trainer_func=lambda count=count: Trainer(
                max_steps=count, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
            ),
        )
        begun = time.process_time()
        model.fit(learnt)
        spent.append(time.process_time() - begun)
    targets = USERS * float(np.minimum(events - 1, window).mean())
    print(json.dumps({"targets": targets, "cpu_s": (spent[1] - spent[0]) / steps}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
