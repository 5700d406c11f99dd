import json

import polars as pl
import pytest

from habitue import collect
from habitue.collect.profiles import fields, kind_of, look
from habitue.core.errors import InputError
from habitue.core.workspace import init


def write(path, header, *rows):
    path.write_text("\n".join([",".join(header), *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return path


def mapping(folder, file):
    text = collect.guess(file)
    (folder / "m.toml").write_text(text, encoding="utf-8")
    return collect.read_mapping(folder / "m.toml"), text


# What one column looks like


@pytest.mark.parametrize(
    ("texts", "formats"),
    [
        (["2024-01-31 10:00:00", "2024-02-01T10:00Z"], ["iso"]),
        (["31/01/2024", "01/02/2024"], ["%d/%m/%Y"]),
        (["01/31/2024", "02/01/2024"], ["%m/%d/%Y"]),
        (["01/31/2024 1:05 PM", "02/01/2024 11:00 AM"], ["%m/%d/%Y %I:%M %p"]),
        (["31.01.2024 10:00", "1.2.2024 09:30"], ["%d.%m.%Y %H:%M"]),
        (["2024年1月31日", "2024年2月1日"], ["%Y年%m月%d日"]),
        (["2024/1/31 下午3:05", "2024/2/1 上午9:05"], ["%Y/%m/%d %p%I:%M"]),
        (["20240131", "20240201"], ["%Y%m%d"]),
        (["1706659200", "1706745600"], ["seconds"]),
        (["1706659200000"], ["milliseconds"]),
        (["1706659200000000"], ["microseconds"]),
        (["Jan 31, 2024", "Feb 1, 2024"], ["%b %d, %Y"]),
        (["31 January 2024", "1 February 2024"], ["%d %B %Y"]),
        (["31/01/2024 10:00 +0100"], ["%d/%m/%Y %H:%M %z"]),
        (["2024-01-31", "2024-02-01", "31/01/2024", "2024年1月31日"], ["iso", "%d/%m/%Y", "%Y年%m月%d日"]),
        (["12.5", "13"], []),
        (["hello", "world"], []),
        (["10001", "10002"], []),
        (["99991231", "00000000"], []),
    ],
)
def test_the_formats_of_times(texts, formats):
    assert sorted(look(pl.Series("at", texts)).formats) == sorted(formats)


def test_days_and_months_that_cannot_be_told_apart():
    profile = look(pl.Series("at", ["03/04/2024", "05/06/2024"]))
    assert (profile.ambiguous, profile.day_first, profile.formats) == (True, True, ["%d/%m/%Y"])
    american = look(pl.Series("at", ["03/04/2024 1:00 PM", "05/06/2024 2:00 AM"]))
    assert (american.ambiguous, american.day_first) == (True, False)


@pytest.mark.parametrize(
    ("texts", "numeric", "comma", "currencies"),
    [
        (["1,234.50", "3.00"], True, False, ()),
        (["1.234,50", "3,00"], True, True, ()),
        (["12,5", "7,25"], True, True, ()),
        (["€ 5", "€ 7.50"], True, False, ("EUR",)),
        (["5 USD", "7 GBP"], True, False, ("GBP", "USD")),
        (["1", "2", "3"], True, False, ()),
        (["SKU-1", "SKU-2"], False, False, ()),
        (["USD", "USD"], False, False, ("USD",)),
        (["yes", "no"], False, False, ()),
    ],
)
def test_numbers_and_currencies(texts, numeric, comma, currencies):
    profile = look(pl.Series("x", texts))
    assert (profile.numeric, profile.currencies) == (numeric, currencies)
    if numeric:
        assert profile.decimal_comma == comma


@pytest.mark.parametrize(
    ("word", "kind"),
    [("buy", "Order Completed"), ("加购", "Product Added"), ("PV", "Product Viewed"), ("add_to_cart", "Product Added")]
    + [("Order Refunded", "Order Refunded"), ("已退款", "Order Refunded"), ("frobnicate", None)],
)
def test_kinds_of_events(word, kind):
    assert kind_of(word) == kind


def test_a_column_serves_one_field_and_the_better_name_wins():
    columns = [pl.Series("Product", ["a", "b"]), pl.Series("SKU", ["1x", "2x"]), pl.Series("Item name", ["c", "d"])]
    found = {name: profile.name for name, profile in fields([look(c) for c in columns]).items()}
    assert found == {"item_id": "SKU", "title": "Item name"}


# Whole files


def test_an_event_table_with_actions(tmp_path):
    rows = [(f"u{n % 3}", f"i{n}", ("pv", "cart", "fav", "buy")[n % 4], str(1_706_659_200 + n)) for n in range(40)]
    found, text = mapping(
        tmp_path, write(tmp_path / "UserBehavior.csv", ("user_id", "item_id", "behavior", "ts"), *rows)
    )
    assert found.columns == {"item_id": "item_id", "kind": "behavior", "at": "ts"}
    assert found.kind.names == {
        "pv": "Product Viewed",
        "cart": "Product Added",
        "fav": "Product Added to Wishlist",
        "buy": "Order Completed",
    }
    assert (found.user.column, found.time_format, found.source) == ("user_id", "seconds", "userbehavior")
    assert "40 of them would be accepted" in text and "no zone" not in text


def test_ratings_without_a_header(tmp_path):
    (tmp_path / "u.data").write_text("".join(f"{n % 7 + 190}\t{n}\t{n % 5 + 1}\t{881250949 + n}\n" for n in range(60)))
    found, _ = mapping(tmp_path, tmp_path / "u.data")
    assert found.header is False and found.delimiter == "\t" and found.time_format == "seconds"
    assert found.columns == {"at": "4", "item_id": "2", "rating": "3"} and found.user.column == "1"
    assert found.kind.default == "Product Reviewed"


def test_ordered_lists(tmp_path):
    (tmp_path / "beauty.txt").write_text("1 5 9 2\n2 7 7\n3 1 2 4\n")
    found, text = mapping(tmp_path, tmp_path / "beauty.txt")
    assert (found.reader, found.user.column, found.columns["item_id"]) == ("sequences", "user", "item")
    assert "the dates, from 2000 on, mean nothing" in text


def test_competitor_prices(tmp_path):
    rows = [(f"2024-01-0{n}", "rival", "A", "12,50 €") for n in range(1, 9)]
    path = tmp_path / "prices.csv"
    path.write_text("date;competitor;sku;price\n" + "".join(";".join(r) + "\n" for r in rows))
    found, _ = mapping(tmp_path, path)
    assert (found.what, found.fixed, found.decimal, found.currency) == (
        "outside",
        {"kind": "competitor price"},
        ",",
        "EUR",
    )
    assert found.extra == {"competitor": "competitor"} and found.delimiter == ";"
    assert collect.import_file(init(tmp_path / "shop"), path, found).new == 8


def test_exposures(tmp_path):
    rows = [("2024-01-01", f"u{n}", "spring", "AB"[n % 2], "0.5", str(n % 2)) for n in range(20)]
    path = write(tmp_path / "log.csv", ("date", "user_id", "campaign", "arm", "propensity", "click"), *rows)
    found, _ = mapping(tmp_path, path)
    assert found.what == "exposures"
    assert found.columns == {
        "at": "date",
        "what": "campaign",
        "arm": "arm",
        "propensity": "propensity",
        "outcome": "click",
    }
    assert collect.import_file(init(tmp_path / "shop"), path, found).new == 20


def test_signals_examples_and_a_catalogue(tmp_path):
    shop = init(tmp_path / "shop")
    rows = [(f"2024-01-01 10:00:{n:02d}", "u1", "heart_rate", str(60 + n), "bpm") for n in range(9)]
    path = write(tmp_path / "pulse.csv", ("timestamp", "user_id", "signal", "value", "unit"), *rows)
    found, _ = mapping(tmp_path, path)
    assert found.what == "signals" and collect.import_file(shop, path, found).new == 9

    path = write(tmp_path / "intents.csv", ("text", "label"), *((f"where is parcel {n}", "delivery") for n in range(9)))
    found, text = mapping(tmp_path, path)
    assert found.what == "examples" and "no column tells when or who" in text
    assert collect.import_file(shop, path, found).new == 9

    path = write(
        tmp_path / "products.csv", ("id", "title", "brand", "price"), ("A", "Mug", "X", "5"), ("B", "Cup", "X", "6")
    )
    found, text = mapping(tmp_path, path)
    assert found.what == "items" and "valid_from = " in text
    assert collect.import_file(shop, path, found).new == 2


def test_a_folder_of_pictures(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "SKU1-1.jpg").write_bytes(b"\xff\xd8\xff")
    found, _ = mapping(tmp_path, tmp_path / "photos")
    assert (found.what, found.columns["owner_id"], found.fixed) == ("media", "owner", {"owner": "item"})
    assert collect.import_file(init(tmp_path / "shop"), tmp_path / "photos", found).new == 1


def test_numbers_at_the_end_of_all_names_are_parts_of_the_ids(tmp_path):
    (tmp_path / "photos").mkdir()
    for n in range(25):
        (tmp_path / "photos" / f"sku-{n:03d}.jpg").write_bytes(b"\xff\xd8\xff" + bytes([n]))
    (tmp_path / "photos" / "sku-001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found, text = mapping(tmp_path, tmp_path / "photos")
    assert found.columns["owner_id"] == "name" and "without the number at the end 25 names would be 1" in text
    for n in range(3):
        (tmp_path / "photos" / f"cup{n}.jpg").write_bytes(b"\xff\xd8\xff" + bytes([n, n]))
    assert mapping(tmp_path, tmp_path / "photos")[0].columns["owner_id"] == "owner"  # 28 names of 4 products


def test_the_number_of_a_review_is_not_its_text(tmp_path):
    rows = [(f"r{n}", f"p{n}", f"u{n}", "fits well and looks good", f"2025-06-{n + 1:02d}") for n in range(9)]
    path = write(tmp_path / "reviews.csv", ("review", "sku", "customer", "text", "date"), *rows)
    found, _ = mapping(tmp_path, path)
    assert found.columns["text"] == "text" and found.kind.default == "Product Reviewed"
    asked = write(tmp_path / "asked.csv", ("sku", "customer", "text", "date"), *(row[1:] for row in rows))
    assert mapping(tmp_path, asked)[0].kind.default == "Question Asked"


def test_a_list_of_pictures_and_their_products(tmp_path):
    (tmp_path / "A.jpg").write_bytes(b"\xff\xd8\xff")
    path = write(tmp_path / "photos.csv", ("sku", "file"), ("A", "A.jpg"), ("B", "none.jpg"))
    found, text = mapping(tmp_path, path)
    assert (found.what, found.columns, found.fixed) == ("media", {"path": "file", "owner_id": "sku"}, {"owner": "item"})
    assert "1 x no such file" in text
    assert collect.import_file(init(tmp_path / "shop"), path, found).new == 1
    catalogue = write(tmp_path / "products.csv", ("sku", "title", "file"), ("A", "Mug", "A.jpg"), ("B", "Cup", "B.jpg"))
    assert mapping(tmp_path, catalogue)[0].what == "items"


def test_a_gzip_of_segment(tmp_path):
    import gzip

    message = {
        "messageId": "m",
        "type": "track",
        "event": "Product Viewed",
        "userId": "u",
        "timestamp": "2024-01-01T00:00:00Z",
    }
    (tmp_path / "events").write_bytes(gzip.compress(json.dumps(message | {"properties": {"product_id": "A"}}).encode()))
    found, _ = mapping(tmp_path, tmp_path / "events")
    assert found.columns["event_id"] == "event_id" and found.user.column == "user_id"
    assert collect.import_file(init(tmp_path / "shop"), tmp_path / "events", found).new == 1


def test_who_somebody_is_wants_a_mapping_of_its_own(tmp_path):
    common = {"messageId": "m", "userId": "u", "timestamp": "2024-01-01T00:00:00Z"}
    who = json.dumps(common | {"type": "identify", "traits": {"city": "Lyon"}})
    did = json.dumps(common | {"type": "track", "event": "Product Viewed", "properties": {"product_id": "A"}})
    (tmp_path / "both").write_text("\n".join([did, who, who]))
    _, text = mapping(tmp_path, tmp_path / "both")
    assert (
        '# Unsure: 2 messages tell who somebody is: a second mapping, what = "users" with reader = "identify"' in text
    )
    (tmp_path / "who").write_text(who)
    with pytest.raises(InputError, match=r"tell who somebody is, and none what.*no events.*reader = \"identify\""):
        collect.guess(tmp_path / "who")


def test_nothing_of_a_person_is_printed(tmp_path):
    rows = [
        ("2024-01-01", "o1", "Ann Secret", "ann@x.example", "555 0100"),
        ("2024-01-02", "o2", "Bob", "b@x.example", "5"),
    ]
    _, text = mapping(tmp_path, write(tmp_path / "a.csv", ("date", "order id", "name", "email", "phone"), *rows))
    assert "Secret" not in text and "x.example" not in text and "555" not in text


def test_column_names_that_toml_must_escape(tmp_path):
    (tmp_path / "a.csv").write_text('"da""te\\",order id,"a\nb"\n2024-01-01,1,x\n', encoding="utf-8")
    found, _ = mapping(tmp_path, tmp_path / "a.csv")
    assert found.columns == {"at": 'da"te\\', "order_id": "order id"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n", "there is no row with anything in it"),
        ("a,b\n,\n", "there is no row with anything in it"),
        ("colour,size\nred,4\n", "no column tells when something happened.*'colour', 'size'[)].*by hand"),
        ("user,then\na,2024-01-03\nb,soon\nc,later\n", "'user', 'then'; 'then' is nearest: 33% of it reads as times"),
    ],
)
def test_what_nobody_can_guess_is_one_sentence(tmp_path, content, words):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=words):
        collect.guess(tmp_path / "a.csv")


def test_a_column_that_is_called_a_time_may_hold_bad_rows(tmp_path):
    rows = ["a,p1,2024-01-03", "b,p2,13.2024", "c,p3,2024-02-03", "d,p1,someday", "e,p1,2024-02-09"]
    dates, odd = tmp_path / "dates.csv", tmp_path / "odd.csv"
    dates.write_text("customer,product,date\n" + "\n".join(rows) + "\n")
    odd.write_text("customer,product,odd\n" + "\n".join(rows) + "\n")
    found, text = mapping(tmp_path, dates)
    assert found.columns["at"] == "date"
    assert "3 of them would be accepted" in text and "2 x bad time" in text
    with pytest.raises(InputError, match="'odd' is nearest: 60% of it reads as times"):
        collect.guess(odd)


def test_a_price_that_is_written_in_two_ways_is_named_and_not_passed_over(tmp_path):
    prices = ["€ 24,53", "$12.50"] * 10 + ["€ 3,10"] * 5
    rows = [f'2024-01-{i + 1:02},{i},{i % 4},A{i % 3},"{price}"' for i, price in enumerate(prices)]
    (tmp_path / "a.csv").write_text("\n".join(["date,order,customer,sku,unit price", *rows]))
    told = collect.guess(tmp_path / "a.csv")
    assert "price =" not in told
    unsure = next(line for line in told.splitlines() if "is called a price" in line)
    assert "'unit price'" in unsure and "40% of the rows with '.'" in unsure and "60% with ','" in unsure


def test_ids_that_repeat_are_no_ids(tmp_path):
    rows = [("T1", "2024-01-01", "a@x.example", "where?"), ("T1", "2024-01-02", "a@x.example", "still where?")]
    found, _ = mapping(tmp_path, write(tmp_path / "a.csv", ("ticket id", "date", "email", "message"), *rows))
    assert "event_id" not in found.columns  # the second row of a ticket would be taken for the first


# What real exports bring


def german(path, encoding="cp1252"):
    lines = [
        "Exportiert am 01.09.2024;;;;;;;",
        "",
        "Bestellnr.;Bestelldatum;Kundennr.;Art.-Nr.;Menge;Stückpreis;Status",
    ]
    status = ("bezahlt", "bezahlt", "storniert", "Rückgabe")
    lines += [
        f"B{n};{n % 27 + 1:02d}.03.2024 1{n % 9}:05;K{n % 5};A{n % 7};2;1.23{n % 9},50 €;{status[n % 4]}"
        for n in range(60)
    ]
    lines += ["B99;28.03.24;K1;A1;1;3,00 €;bezahlt", "Summe;;;;61;99.999,00 €;"]
    path.write_bytes("\r\n".join(lines).encode(encoding))
    return path


def test_what_stands_above_a_table_and_below_it(tmp_path):
    found, text = mapping(tmp_path, german(tmp_path / "bestellungen.csv"))
    assert found.columns == {
        "order_id": "Bestellnr.",
        "at": "Bestelldatum",
        "item_id": "Art.-Nr.",
        "quantity": "Menge",
        "price": "Stückpreis",
        "kind": "Status",
    }
    assert (found.currency, found.decimal, found.time_formats) == ("EUR", ",", ("%d.%m.%y",))
    assert found.kind.names == {
        "bezahlt": "Order Completed",
        "storniert": "Order Cancelled",
        "Rückgabe": "Order Refunded",
    }
    shop = init(tmp_path / "shop", currency="EUR")
    done = collect.import_file(shop, tmp_path / "bestellungen.csv", mapping=found)
    assert (done.read, done.new, done.refused) == (62, 61, 1)  # the sum below the table is nobody's order


def test_orders_that_hold_their_lines(tmp_path):
    orders = [
        {
            "id": 100 + n,
            "status": "processing",
            "date_created": f"2024-03-{n % 28 + 1:02d}T10:00:00Z",
            "customer_id": n % 4,
            "total": "99.00",
            "currency": "USD",
            "billing": {"first_name": "A", "country": "US"},
            "line_items": [
                {"id": 10 * n + k, "name": f"Mug {k}", "sku": f"s{k}", "quantity": 2, "price": 4.5} for k in (0, 1)
            ],
        }
        for n in range(30)
    ]
    (tmp_path / "woo.json").write_text(json.dumps(orders))
    found, text = mapping(tmp_path, tmp_path / "woo.json")
    assert found.lines == "line_items" and found.user.nobody == ("0",)
    assert "'0' in 'customer_id' is taken to name nobody" in text and "'billing.first_name' may name a person" in text
    assert found.columns == {
        "order_id": "id",
        "kind": "status",
        "at": "date_created",
        "item_id": "line_items.sku",
        "title": "line_items.name",
        "quantity": "line_items.quantity",
        "price": "line_items.price",
    }
    done = collect.import_file(init(tmp_path / "shop", currency="USD"), tmp_path / "woo.json", mapping=found)
    assert (done.new, done.orders, done.users, done.guests) == (60, 30, 3, 8)


def test_visitors_dwell_and_records_that_are_cut_off(tmp_path):
    lines = [
        {"ts": 1_700_000_000_000 + n, "uid": f"u{n % 3}" if n % 2 else None, "visitor": f"v{n % 5}", "action": "view"}
        | {"sku": f"i{n % 4}", "page": {"url": "/p", "ref": None}, "dwell": 2.5}
        for n in range(40)
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"ts": 17\n'
    (tmp_path / "clicks.log").write_text(text)
    found, text = mapping(tmp_path, tmp_path / "clicks.log")
    assert (found.user.column, found.user.anonymous) == ("uid", "visitor")
    assert found.columns == {
        "at": "ts",
        "kind": "action",
        "item_id": "sku",
        "surface": "page.url",
        "dwell_s": "dwell",
    }
    assert "first 41 rows" in text and "40 of them would be accepted" in text and "1 x bad record" in text


@pytest.mark.parametrize("content", ["{}", '{"a": {}}\n{}\n', "[{}, {}]"])
def test_records_without_a_key_are_one_sentence(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"no row with anything in it|no column tells"):
        collect.guess(tmp_path / "a.json")


def test_a_parquet_file_is_guessed_from_its_columns(tmp_path):
    """It has no text to look at first: none of its columns was asked for, so none came."""
    frame = pl.DataFrame({"order_date": ["2024-01-31 10:00:00"], "sku": ["A"], "customer_id": [7], "price": [2.5]})
    frame.write_parquet(tmp_path / "orders.parquet")
    found, text = mapping(tmp_path, tmp_path / "orders.parquet")
    assert (
        found.columns == {"at": "order_date", "item_id": "sku", "price": "price"} and found.user.column == "customer_id"
    )
    assert "# 1 of them would be accepted as it stands." in text


def test_of_two_columns_of_one_name_none_is_guessed(tmp_path):
    file = write(tmp_path / "a.csv", ["order_date", "sku", "customer_id", "sku"], ["2024-01-31", "A", "7", "B"])
    with pytest.raises(InputError, match="2 columns are called 'sku'"):
        collect.guess(file)
