"""Runs inside the environment of RePlay: python drive_replay_pace.py GIVEN.npz LOSS WINDOW STEPS.

Prints targets a step and CPU-seconds a step of its SASRec (width 64, 2 heads, 2 blocks, batches of 128 users, its own
loader): the difference between a fit of some steps and one of STEPS more, so that building is not counted.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.sequential import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms

WARM = 5
USERS = 128  # a step
ITEM = "item_id"


def main(given: str, loss: str, window: int, steps: int) -> None:
    if loss != "softmax":
        raise SystemExit(f"'{loss}' is not asked of this library")
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with np.load(given) as data:
        fit = pd.DataFrame({"user_id": data["fit_user"], ITEM: data["fit_item"]})
    sequences = fit.groupby("user_id", as_index=False)[ITEM].agg(list)
    events = sequences[ITEM].map(len).to_numpy()
    items = int(fit[ITEM].max()) + 1
    path = Path("train.parquet").absolute()
    sequences[events > 1].to_parquet(path)
    source = [TensorFeatureSource(FeatureSource.INTERACTIONS, ITEM)]
    schema = TensorSchema(
        [
            TensorFeatureInfo(
                ITEM, is_seq=True, feature_type=FeatureType.CATEGORICAL, embedding_dim=64, padding_value=items,
                cardinality=items, feature_hint=FeatureHint.ITEM_ID, feature_sources=source,
            )
        ]
    )  # fmt: skip
    spent = []
    for count in (WARM, WARM + steps):
        model = SasRec.from_params(
            schema, embedding_dim=64, num_heads=2, num_blocks=2, max_sequence_length=window, dropout=0.2
        )
        loader = ParquetModule(
            batch_size=USERS,
            metadata={"train": {ITEM: {"shape": window + 1, "padding": items}}},
            transforms={"train": make_default_sasrec_transforms(schema)["train"]},
            train_path=str(path),
        )
        trainer = lightning.Trainer(
            max_steps=count, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0,
        )  # fmt: skip
        begun = time.process_time()
        trainer.fit(LightningModule(model), datamodule=loader)
        spent.append(time.process_time() - begun)
    targets = USERS * float(np.minimum(events[events > 1] - 1, window).mean())
    print(json.dumps({"targets": targets, "cpu_s": (spent[1] - spent[0]) / steps}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
