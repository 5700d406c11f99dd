"""Runs inside the environment of RecTools: python drive_rectools.py MODEL GIVEN.npz TOLD.npz (see run.py)."""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
import pandas as pd
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import EASEModel, PopularModel


def sasrec() -> object:
    from rectools.models import SASRecModel

    return SASRecModel(
        n_factors=64, n_blocks=2, n_heads=2, session_max_len=50, loss="softmax", epochs=5, deterministic=True
    )


MODELS = {"ease": lambda: EASEModel(regularization=500.0), "popular": PopularModel, "sasrec": sasrec}


def main(name: str, given: str, told: str) -> None:
    warnings.filterwarnings("ignore")
    with np.load(given) as data:
        (_, _, count), asked = (int(n) for n in data["shape"]), data["asked"]
    fit, ask = events_of(given), events_of(given, "ask")
    begun = time.process_time()
    model = MODELS[name]()
    learnt = Dataset.construct(fit)
    model.fit(learnt)
    known = learnt.item_id_map.external_ids
    asking = Dataset.construct(ask) if len(ask) == len(fit) else _asked(learnt, ask)
    users = asked[np.isin(asked, asking.user_id_map.external_ids)]
    found = model.recommend(users, asking, k=count, filter_viewed=True)
    lists = np.full((len(asked), count), -1, dtype=np.int64)
    row = pd.Series(np.arange(len(asked)), index=asked)
    lists[row[found[Columns.User]].to_numpy(), found[Columns.Rank].to_numpy() - 1] = found[Columns.Item].to_numpy()
    assert np.isin(lists[lists >= 0], known).all()
    cpu_s = time.process_time() - begun
    np.savez(told, lists=lists, cpu_s=cpu_s, peak_mb=peak_mb())


def events_of(given: str, part: str = "fit") -> pd.DataFrame:
    """Return what the models are fitted on, or asked with, as RecTools takes it; a step of a user's life is a day."""
    with np.load(given) as data:
        at = pd.Timestamp("2020-01-01") + pd.to_timedelta(data[f"{part}_step"], unit="D")
        user, item = data[f"{part}_user"], data[f"{part}_item"]
    return pd.DataFrame({Columns.User: user, Columns.Item: item, Columns.Weight: 1.0, Columns.Datetime: at})


def _asked(learnt: Dataset, ask: pd.DataFrame) -> Dataset:
    """The histories before the test, by the numbers the model learnt; items it never met are left out."""
    from rectools.dataset import Interactions

    kept = ask[ask[Columns.Item].isin(learnt.item_id_map.external_ids)]
    interactions = Interactions.from_raw(kept, learnt.user_id_map, learnt.item_id_map)
    return Dataset(learnt.user_id_map, learnt.item_id_map, interactions)


def peak_mb() -> float:
    """Return this program's own peak; getrusage would begin with that of the process that started it (Linux)."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(*sys.argv[1:])
