import polars as pl
from polars.testing import assert_frame_equal

from habitue.collect.synthetic import TASTES, shop
from habitue.core.schemas import EVENTS, check

EVENTS_OF = shop(seed=1)


def test_the_same_arguments_give_the_same_shop():
    assert_frame_equal(shop(seed=1), EVENTS_OF)
    assert not shop(seed=2).equals(EVENTS_OF)


def test_the_table_keeps_its_contract():
    check(EVENTS_OF, EVENTS, at="test")
    assert EVENTS_OF.select(EVENTS.key).is_unique().all()
    assert EVENTS_OF["at"].is_sorted()
    assert EVENTS_OF["user_key"].n_unique() == 80


def test_each_user_has_one_taste_and_titles_tell_it():
    taste = pl.col("item_id").str.slice(1).cast(pl.Int64) // 10
    assert EVENTS_OF.select((taste == pl.col("user_key") % 4).all()).item()
    assert EVENTS_OF.select(
        (pl.col("title").str.split(" ").list.first() == pl.lit(pl.Series(TASTES)).gather(taste)).all()
    ).item()


def test_two_staples_are_in_every_order():
    orders = pl.col("order_id").n_unique().over("user_key")
    every = EVENTS_OF.group_by("user_key", "item_id").agg(pl.col("order_id").n_unique(), total=orders.first())
    totals = EVENTS_OF.group_by("user_key").agg(total=pl.col("order_id").n_unique())
    staples = every.drop("total").join(totals, on="user_key").filter(pl.col("order_id") == pl.col("total"))
    assert (staples.group_by("user_key").len()["len"] >= 2).all()
    assert staples["user_key"].n_unique() == 80


def test_a_leading_item_is_followed_by_its_partner():
    number = pl.col("item_id").str.slice(1).cast(pl.Int64)
    order = pl.col("order_id").str.split("-").list.last().cast(pl.Int64)
    lines = EVENTS_OF.select("user_key", item=number, order=order)
    staples = lines.group_by("user_key", "item").len().sort("len", descending=True).group_by("user_key").head(2)
    leads = lines.filter(pl.col("item") % 2 == 0).join(staples, on=["user_key", "item"], how="anti")
    last = lines.group_by("user_key").agg(last=pl.col("order").max())
    leads = leads.join(last, on="user_key").filter(pl.col("order") < pl.col("last"))
    partners = leads.with_columns(pl.col("item") + 1, pl.col("order") + 1)
    met = partners.join(lines, on=["user_key", "item", "order"], how="semi")
    assert leads.height > 100 and met.height == leads.height


def test_half_the_users_lapse_two_thirds_through():
    last = EVENTS_OF.group_by("user_key").agg(day=(pl.col("at").max() - EVENTS_OF["at"].min()).dt.total_days())
    lapsed = pl.col("user_key") // 4 % 2 == 0
    assert last.filter(lapsed)["day"].max() < 160
    assert last.filter(~lapsed)["day"].min() > 200
