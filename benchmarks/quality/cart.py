"""What a cart says beside what a customer does: the placement `cart`, measured on two shops.

    HABITUE_DATA=... python benchmarks/quality/cart.py                 at the cut, with the share the server takes
    HABITUE_DATA=... python benchmarks/quality/cart.py --earlier       every share, one horizon before the cut

Of each known customer's first order after the cut, half of the products, drawn, lie in the cart; the other half is to
be found. Ranked by what stood in one order with those in the cart (`together`), by what comes next for the customer
(the blend on Online Retail; on Complete Journey, whose 92,000 products take hours to train on, `popular`), and by both.
Without HABITUE_DATA only Online Retail, which ships with Habitue, is measured.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp
from personas import SHOPS, Shop

from habitue import evaluate, pipeline, prepare
from habitue.core import runtime
from habitue.core.schemas import METRICS
from habitue.evaluate import bench
from habitue.evaluate.measured import per_user
from habitue.evaluate.ranking import values
from habitue.model import blend, popular
from habitue.model.fuse import standard
from habitue.model.past import PURCHASE, Floats, Past, histories, next_sets
from habitue.plan import Plan
from habitue.serve.scorer import CART_SHARE
from habitue.serve.shop import UNSURE

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the cart in the score
HORIZON_DAYS = 60
MOST = 2_000  # customers asked


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--earlier", action="store_true", help="every share, where settings are chosen")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    data = os.environ.get("HABITUE_DATA")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    for name in ("online-retail", "complete-journey") if data else ("online-retail",):
        shop = SHOPS[name](Path(data or ""))
        if options.earlier:
            found = halves(shop, shop.cut - dt.timedelta(days=HORIZON_DAYS))
            told = {share: values(mixed(found, share), found.wanted, found.cart, cutoffs=(10,)) for share in SHARES}
            print(shop.name, {share: round(float(one["ndcg@10"].mean()), 4) for share, one in told.items()}, flush=True)
            continue
        found, measured = halves(shop, shop.cut), []
        own = "popular" if found.quick else "blend"
        for model, share in ((own, 0.0), ("together", 1.0), ("alike", 0.5), (f"together {CART_SHARE:.0%}", CART_SHARE)):
            for metric, each in values(mixed(found, share), found.wanted, found.cart, cutoffs=(10, 20)).items():
                measured.append(per_user("CART", model, "all", metric, found.users, each))
        table = evaluate.table(measured, dataset=shop.name)
        bench.write(METRICS.shape(table), options.out, commit=commit.stdout.strip())
        paired = evaluate.compare([one for one in measured if one.metric == "ndcg@10"], against="alike", seed=0)
        with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_hide_dataframe_shape=True):
            print(table.filter(pl.col("metric") == "ndcg@10").select("model", "mean", "low", "high", "n"), paired)


class Found:
    """The orders after a moment, halved, and what the two rankings say of them."""

    def __init__(self, past: Past, own: Floats, users: np.ndarray, order: sp.csr_matrix, *, quick: bool) -> None:
        rng = np.random.default_rng(0)
        in_cart = np.concatenate([rng.permutation(count) < round(count / 2) for count in np.diff(order.indptr)])
        self.cart, self.wanted = _part(order, in_cart), _part(order, ~in_cart)
        self.users, self.quick = past.histories.user_keys[users], quick
        self.own: Floats = standard(own)
        self.around: Floats = standard(np.asarray((self.cart @ _together(past)).todense(), dtype=np.float32))


def halves(shop: Shop, cut: dt.datetime) -> Found:
    """Fit on what was known at the cut, and ask about each customer's first order in the horizon after it."""
    quick = shop.name != "Online Retail"
    past, _ = pipeline.look_back(shop.tables, as_of=cut, plan=Plan(), train=not quick)
    later, _ = prepare.split(shop.tables.events, cut + dt.timedelta(days=HORIZON_DAYS))
    every = histories(prepare.timeline(later), past.items, users=past.histories.user_keys)
    target = next_sets(every, after=past.day, until=past.day + HORIZON_DAYS)
    users = np.flatnonzero(past.known & (np.diff(target.indptr) > 1))[:MOST]
    asked, machine = past.take(users), runtime.detect(seed=0)
    if quick:
        own = popular.score(popular.fit(past, popular.Config(), runtime=machine), asked)
    else:
        own = blend.score(pipeline.fit(past, Plan(), runtime=machine), asked)
    return Found(past, own, users, target[users], quick=quick)


def mixed(found: Found, share: float) -> Floats:
    """Return the scores with a share of the cart."""
    return np.float32(share) * found.around + np.float32(1 - share) * found.own


def _together(past: Past) -> sp.csr_matrix:
    """Return [I, I], how often two products stood in one order; as `serve.shop.together`."""
    orders = past.histories.of_kind(PURCHASE)
    ones = np.ones(len(orders.row_item), dtype=np.float32)
    baskets = sp.csr_matrix((ones, (orders.row_set, orders.row_item)), shape=(len(orders.set_at), len(past.items)))
    baskets.data[:] = 1
    scale = sp.diags_array(1 / np.sqrt(np.asarray(baskets.sum(axis=0)).ravel() + UNSURE))
    both = sp.csr_matrix(scale @ (baskets.T @ baskets) @ scale)
    both.setdiag(0)
    return both


def _part(order: sp.csr_matrix, mask: np.ndarray) -> sp.csr_matrix:
    row = np.repeat(np.arange(order.shape[0]), np.diff(order.indptr))[mask]
    return sp.csr_matrix((np.ones(mask.sum(), dtype=np.float32), (row, order.indices[mask])), shape=order.shape)


if __name__ == "__main__":
    main()
