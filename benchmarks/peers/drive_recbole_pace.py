"""Runs inside the environment of RecBole: python drive_recbole_pace.py GIVEN.npz LOSS WINDOW STEPS.

Prints targets a step and CPU-seconds a step of its SASRec (width 64, 2 heads, 2 blocks, its own loader, steps as its
trainer makes them). RecBole makes a row of every prefix, so a step of 256 rows has 256 targets.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec

WARM = 5
ROWS = 256  # a step
NAME = "given"


def main(given: str, loss: str, window: int, steps: int) -> None:
    if loss != "softmax":
        raise SystemExit(f"'{loss}' is not a loss of this library's SASRec")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    folder = Path(NAME)
    folder.mkdir()
    with np.load(given) as data:
        rows = np.c_[data["fit_user"], data["fit_item"], data["fit_step"]]
    head = "user_id:token\titem_id:token\ttimestamp:float"
    np.savetxt(folder / f"{NAME}.inter", rows, fmt="%d", delimiter="\t", header=head, comments="")
    settings = {
        "data_path": str(folder.parent.absolute()), "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp",
        "MAX_ITEM_LIST_LENGTH": window, "train_batch_size": ROWS, "train_neg_sample_args": None, "use_gpu": False,
        "n_layers": 2, "n_heads": 2, "hidden_size": 64, "inner_size": 64, "hidden_dropout_prob": 0.2,
        "attn_dropout_prob": 0.2, "loss_type": "CE", "state": "ERROR", "show_progress": False,
    }  # fmt: skip
    sys.argv = sys.argv[:1]  # it reads the command line too
    config = Config(model="SASRec", dataset=NAME, config_dict=settings)
    loader, _, _ = data_preparation(config, create_dataset(config))
    model = SASRec(config, loader.dataset)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    begun = 0.0
    for step, batch in enumerate(loader):
        if step == WARM:
            begun = time.process_time()
        if step == WARM + steps:
            break
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
    print(json.dumps({"targets": ROWS, "cpu_s": (time.process_time() - begun) / steps}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
