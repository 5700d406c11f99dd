"""What a shop says of itself reaches the customer model: searches, rules of the plan, pictures; in a planted shop."""

import dataclasses
import datetime as dt

import numpy as np
import polars as pl
import pytest
from PIL import Image

import habitue
from habitue import pipeline
from habitue.core.errors import SettingsError
from habitue.core.runtime import Runtime
from habitue.core.schemas import EVENTS, ITEMS, MEDIA, PURCHASE, REFUSED, USERS
from habitue.encode import search
from habitue.model import behaviour, knowledge
from habitue.plan import Plan, load
from habitue.tables import Tables, version

CUT = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
WORDS = ("lamp", "mug", "scarf", "clock", "basket", "mirror", "kettle", "rug")
USERS_, VISITS, EACH = 240, 6, 3


@pytest.fixture(scope="module")
def shop() -> Tables:
    """Everybody's every visit is a search for one of eight words, then an order of a product of that word.

    The newest search of everybody comes just before CUT, its order after it.
    """
    rng = np.random.default_rng(5)
    catalogue = {f"{word}{k}": f"{colour} {word}" for word in WORDS for k, colour in enumerate(("red", "blue", "oak"))}
    rows = []
    for user in range(USERS_):
        for visit in range(VISITS):
            at = CUT - dt.timedelta(days=(VISITS - 1 - visit) * 20 + float(rng.random()), minutes=10)
            word = rng.choice(WORDS)
            about = {"user_key": user, "line": 0, "source": "planted", "import_id": "planted"}
            event = {"kind": search.SEARCHED, "query": f"{word}s", "at": at, "event_id": f"s{user}-{visit}"}
            rows.append(about | event | {"item_id": None})
            item, at = f"{word}{rng.integers(EACH)}", at + dt.timedelta(hours=1 if visit < VISITS - 1 else 48)
            bought = {"kind": PURCHASE, "quantity": 1.0, "price": 5.0, "value": 5.0, "currency": "EUR"}
            event = {"item_id": item, "order_id": f"o{user}-{visit}", "at": at, "event_id": f"o{user}-{visit}"}
            rows.append(about | bought | event | {"title": catalogue[item], "query": None})
    events = EVENTS.shape(pl.from_dicts(rows, infer_schema_length=None))
    known = pl.DataFrame({"user_key": np.arange(USERS_), "known": True})
    return Tables(events, events, pl.DataFrame(), ITEMS.empty(), USERS.empty(), REFUSED.empty(), known)


def hits(shop: Tables) -> float:
    """Return how many in a hundred find a product of the word they searched last on the first three places."""
    past, titles = pipeline.look_back(shop, as_of=CUT, plan=Plan(horizon_days=30))
    config = behaviour.Config(width=32, passes=30, learning_rate=5e-3)
    scores = behaviour.score(behaviour.fit(past, config, runtime=Runtime()), past)
    last = shop.events.filter(pl.col("kind") == search.SEARCHED, pl.col("at") < CUT).sort("user_key", "at")
    wanted = (
        last.group_by("user_key", maintain_order=True).agg(pl.col("query").last())["query"].str.strip_chars_end("s")
    )
    best = np.argsort(-scores, axis=1)[:, :EACH]
    named = [[titles[past.items[i]].split()[1] == word for i in row] for row, word in zip(best, wanted, strict=True)]
    return 100 * float(np.mean(named))


def test_the_products_a_search_means_are_a_set_of_the_history(shop):
    past, _ = pipeline.look_back(shop, as_of=CUT, plan=Plan(horizon_days=30))
    searched = past.histories.of_kind(search.SEARCHED)
    assert len(searched.set_at) == USERS_ * VISITS
    assert (np.diff(searched.row_start) == EACH).all()  # the three products of the word
    assert not searched.row_value.any() and not searched.row_quantity.any()


@pytest.mark.slow
def test_what_was_searched_is_recommended(shop):
    told = hits(shop)
    events = shop.events.with_columns(query=pl.lit(None, dtype=pl.String))
    assert told > 80
    assert hits(dataclasses.replace(shop, raw=events, events=events)) < 25  # a word in eight, drawn anew at each visit


RULES = """
[[knowledge]]
bought = { words = "lamp" }
wants = { words = "red rug", brand = "Knot" }
share = 0.3

[[knowledge]]
bought = { words = "nothing like it" }
wants = { category = "Rugs" }
"""

MAPPING = """
source = "orders"
time_zone = "UTC"
user = { column = "customer" }

[columns]
at = "date"
order_id = "order"
item_id = "product"
title = "name"
quantity = "quantity"
price = "price"
"""


def test_rules_of_the_plan_are_about_the_catalogue_of_the_moment(shop, tmp_path):
    (tmp_path / "habitue.toml").write_text(RULES)
    plan = load(tmp_path / "habitue.toml")
    said = {"valid_from": CUT - dt.timedelta(days=50), "source": "t", "import_id": "t"}
    items = [{"item_id": "mug1", "category": "Rugs > Odd"}, {"item_id": "clock2", "brand": "Knot"}]
    late = said | {"item_id": "rug1", "category": "Rugs", "valid_from": CUT}
    items = ITEMS.shape(pl.from_dicts([*(said | one for one in items), late], infer_schema_length=None))
    past, _ = pipeline.look_back(dataclasses.replace(shop, items=items), as_of=CUT, plan=plan)
    rules, names = past.knowledge, np.array(past.items)
    left, right = ([names[side[r].indices].tolist() for r in (0, 1)] for side in (rules.left, rules.right))
    assert left == [["lamp0", "lamp1", "lamp2"], []] and right == [["clock2", "rug0"], ["mug1"]]
    np.testing.assert_allclose(rules.share, [0.3, 0.2])
    with pytest.raises(SettingsError, match="rule 2.*'bought' names none of the 24 products"):
        knowledge.check(rules)


def test_a_rule_that_names_nothing_stops_training_before_it_begins(tmp_path):
    rows = [f"2026-0{1 + n % 5}-1{n % 9} 10:00,o{n},a{n % 3},mug {n % 3},1,2.50,c{n % 7}" for n in range(60)]
    (tmp_path / "orders.csv").write_text("\n".join(["date,order,product,name,quantity,price,customer", *rows]))
    (tmp_path / "orders.toml").write_text(MAPPING)
    made = habitue.init(tmp_path / "shop")
    made.import_(tmp_path / "orders.csv", seed=1)
    with made.space.plan.open("a") as plan:
        plan.write("\n" + RULES.split("\n\n")[1])
    shop = habitue.open(tmp_path / "shop")
    with pytest.raises(SettingsError, match="rule 1.*'bought' names none of the 3 products"):
        shop.train()
    assert not list(shop.space.models.rglob("*.safetensors"))


def test_pictures_of_products_reach_the_models(shop, tmp_path):
    """Nobody has bought the new product, it has no title: its photo says that it is like what the red ones are."""
    red, blue = (230, 20, 20), (20, 20, 230)
    colours = {f"{word}{k}": colour for word, colour in (("lamp", red), ("mug", blue)) for k in range(EACH)}
    rows = []
    for item, colour in (colours | {"new": (225, 25, 20)}).items():
        Image.new("RGB", (48, 48), colour).save(tmp_path / f"{item}.png")
        rows.append({"media_id": item, "owner": "item", "owner_id": item, "path": str(tmp_path / f"{item}.png")})
    told = {"modality": "image", "sha256": "0", "source": "t", "import_id": "t"}
    media = MEDIA.shape(pl.DataFrame([row | told for row in rows]))
    listed = {"item_id": "new", "valid_from": CUT - dt.timedelta(days=1), "source": "t", "import_id": "t"}
    shop = dataclasses.replace(shop, media=media, items=ITEMS.shape(pl.DataFrame([listed])))
    (tmp_path / "habitue.toml").write_text('[content]\nsenses = ["colour"]\n')
    plan = load(tmp_path / "habitue.toml")
    past, _ = pipeline.look_back(shop, as_of=CUT, plan=plan)
    assert [name for name, _ in past.parts] == ["text", "colour"] and past.words.shape[1] == sum(
        n for _, n in past.parts
    )
    state = behaviour.fit(past, behaviour.Config(width=16, passes=3), runtime=Runtime())
    items = np.array(past.items)
    table = behaviour.opened(state, past)[1][:, :16]
    table = table / np.linalg.norm(table, axis=1, keepdims=True)
    like = dict(zip(items, table @ table[items == "new"][0], strict=True))
    assert min(like[f"lamp{k}"] for k in range(EACH)) > max(like[f"mug{k}"] for k in range(EACH))
    blind, _ = pipeline.look_back(shop, as_of=CUT, plan=Plan())
    assert not blind.words[items == "new"].nnz and past.words[items == "new"].nnz
    fewer = dataclasses.replace(shop, media=media[:3])
    assert version(shop, plan, CUT) != version(fewer, plan, CUT)  # other pictures, other data


def test_a_catalogue_imported_after_the_last_order_is_known_today_and_not_before(tmp_path):
    rows = [f"2026-0{1 + n % 5}-1{n % 9} 10:00,o{n},a{n % 3},1,2.50,c{n % 7}" for n in range(60)]
    (tmp_path / "orders.csv").write_text("\n".join(["date,order,product,quantity,price,customer", *rows]))
    (tmp_path / "orders.toml").write_text(MAPPING.replace('title = "name"\n', ""))
    (tmp_path / "products.csv").write_text("code,name\na0,red mug\na1,blue mug\na2,rug\na9,new rug")
    says = 'source = "products"\ntime_zone = "UTC"\nwhat = "items"\nvalid_from = 2026-11-01\n'
    (tmp_path / "products.toml").write_text(says + '[columns]\nitem_id = "code"\ntitle = "name"\n')
    made = habitue.init(tmp_path / "shop")
    with made.space.plan.open("a") as plan:
        plan.write('\n[blend]\nviews = ["popular", "slist"]\n')
    shop = habitue.open(tmp_path / "shop")
    for name in ("orders.csv", "products.csv"):
        shop.import_(tmp_path / name, seed=1)
    assert set(shop.train().manifest["content"]) == {"text"}
    listed = shop.recommend(user_id="c0", n=4, why=False)
    assert dict(listed.select("item_id", "title").iter_rows())["a9"] == "new rug"
    then = shop.train(as_of="2026-06-01")
    assert then.manifest["content"] == {}
    known = shop.recommend(user_id="c0", n=4, why=False, as_of="2026-06-01")
    assert sorted(known["item_id"]) == ["a0", "a1", "a2"] and known["title"].null_count() == 3
