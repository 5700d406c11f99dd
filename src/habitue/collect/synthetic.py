"""A toy shop with planted truth, for tests and bug reports; never a substitute for real data in a claim.

Planted: each user has one taste (a block of items) and re-orders two staples of it in every order; item 2k of a
block is followed by item 2k + 1 in the user's next order; half the users stop ordering two thirds through ("lapsed").
Titles name the taste, so words alone tell who would buy a product nobody has bought yet.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl

from habitue.core.schemas import EVENTS, Events

ORDERS = """
source = "orders"
time_zone = "UTC"
currency = "EUR"
columns = { at = "at", order_id = "order", item_id = "item", title = "title", quantity = "quantity", price = "price" }
user = { column = "user" }
kind = { default = "Order Completed" }
"""  # how a file of orders is read whose columns are called at, order, item, title, quantity, price, user
PLAN = """
horizon_days = 30

[blend]
views = ["popular", "neighbours", "rules", "trees", "behaviour"]

[blend.behaviour]
width = 32
steps = 40
window = 16
"""  # settings that a small shop is trained with in seconds

TASTES = ("garden", "kitchen", "travel", "music")


def shop(
    *,
    users: int = 80,
    items: int = 40,
    days: int = 240,
    seed: int = 0,
    start: dt.datetime = dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
) -> Events:
    """Return EVENTS of `users` users over `days` days; item k is 'P<k>', every line an Order Completed.

    User u (key u) has taste u % 4 and lapses after two thirds of the days when u // 4 is even. Same arguments, same
    table.
    """
    rng = np.random.default_rng(seed)
    block = items // len(TASTES)
    rows: list[tuple[str, int, dt.datetime, int, str, str, str, float, float]] = []
    for user in range(users):
        taste = user % len(TASTES)
        mine = np.arange(taste * block, (taste + 1) * block)
        staples = rng.choice(mine, size=2, replace=False)
        every = float(rng.uniform(8, 20))
        last = days * (2 / 3 if user // len(TASTES) % 2 == 0 else 1.0)
        due: set[int] = set()
        day, order = float(rng.uniform(0, every)), 0
        while day < last:
            at = start + dt.timedelta(seconds=int(day * 86_400))
            lead = int(rng.choice(mine[::2][: block // 2]))
            basket = sorted({*map(int, staples), lead} | due)
            due = {lead + 1}
            for item in basket:
                price = 1.0 + item % 7
                quantity = float(rng.integers(1, 4))
                title = f"{TASTES[taste]} thing {item}"
                order_id = f"{user}-{order}"
                rows.append((f"{order_id}-{item}", 0, at, user, f"P{item:03d}", title, order_id, price, quantity))
            order += 1
            day += every * float(rng.uniform(0.7, 1.3))
    names = ["event_id", "line", "at", "user_key", "item_id", "title", "order_id", "price", "quantity"]
    frame = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        kind=pl.lit("Order Completed"),
        currency=pl.lit("EUR"),
        value=pl.col("price") * pl.col("quantity"),
        source=pl.lit("synthetic"),
        import_id=pl.lit("synthetic"),
    )
    return EVENTS.shape(frame).sort("at", "event_id")
