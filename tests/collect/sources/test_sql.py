import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from habitue.collect.sources.blocks import text
from habitue.collect.sources.sql import is_dsn, shown
from habitue.core.errors import HabitueError, InputError, UsageError

QUERY = 'SELECT at AS "when", item, price FROM orders ORDER BY price'


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "my shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (at TEXT, item TEXT, price REAL)")
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", [("2024-01-01", "A", 2.5), (None, "杯", 3)])
    connection.close()
    return path


def dsn(path: Path) -> str:
    return f"sqlite:///{str(path).replace(' ', '%20')}"


def test_sqlite(shop, read):
    assert read(dsn(shop), ["item", "price"], query=QUERY).rows() == [("A", "2.5"), ("杯", "3")]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT * FROM absent", "the database answers: no such table: absent"),
        ("DELETE FROM orders", "attempt to write a readonly database|no SELECT"),
        ("CREATE TABLE x (y)", "attempt to write a readonly database|no SELECT"),
        ("SELECT", "the database answers"),
        ("SELECT 1; SELECT 2", "the database answers: You can only execute one statement at a time"),
    ],
)
def test_what_a_database_answers_is_one_sentence_and_nothing_is_written(shop, read, query, words):
    before = shop.read_bytes()
    with pytest.raises(InputError, match=words):
        read(dsn(shop), ["item"], query=query)
    assert shop.read_bytes() == before


CELL = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)  # SQLite keeps NaN as null
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.binary(max_size=8)
)


@settings(deadline=None, max_examples=50)
@given(cells=st.lists(CELL, min_size=1, max_size=6))
def test_any_cell_of_a_database_comes_back_as_text(tmp_path_factory, read, cells):
    path = tmp_path_factory.mktemp("sql") / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (n INTEGER, x)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", list(enumerate(cells)))
    connection.close()
    assert read(dsn(path), ["x"], query="SELECT x FROM t ORDER BY n")["x"].to_list() == [text(cell) for cell in cells]


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from(["", "SELECT ", "SELECT * FROM orders WHERE ", "PRAGMA ", "ATTACH "]),
    rest=st.text(max_size=30),
)
def test_any_query_is_rows_or_one_sentence(shop, read, start, rest):
    before = shop.read_bytes()
    try:
        read(dsn(shop), query=start + rest)
    except HabitueError as error:
        assert "\n" not in str(error) and "Traceback" not in str(error)
    assert shop.read_bytes() == before


def test_a_database_that_is_not_there(tmp_path, read):
    with pytest.raises(InputError, match="sqlite:.*there is no such file"):
        read(dsn(tmp_path / "absent.db"), ["a"], query="SELECT 1")
    assert not (tmp_path / "absent.db").exists()
    with pytest.raises(UsageError, match="the mapping has no query.*SELECT"):
        read(dsn(tmp_path / "absent.db"), ["a"])


def test_an_address_is_shown_without_its_password():
    assert shown("postgresql://ann:secret@db.example/shop?password=x") == "postgresql://db.example/shop"
    assert is_dsn("sqlite:///a.db") and not is_dsn("/data/sqlite.csv") and not is_dsn("C:/x.csv")


def test_duckdb(tmp_path, read):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    (tmp_path / "a.csv").write_text("item,price\nA,2.5\nB,3\n")
    query = f"SELECT item, sum(price) AS money FROM read_csv('{tmp_path / 'a.csv'}') GROUP BY item ORDER BY item"
    assert read("duckdb:", ["item", "money"], query=query).rows() == [("A", "2.5"), ("B", "3")]
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT range AS n, DATE '2024-01-02' AS day FROM range(120000)")
    frame = read(f"duckdb:///{tmp_path / 'shop.duckdb'}", ["n", "day"], query="FROM t ORDER BY n")
    assert frame.height == 120_000 and frame.row(-1) == ("119999", "2024-01-02")
    with pytest.raises(InputError, match="the database answers"):
        read(f"duckdb:///{tmp_path / 'shop.duckdb'}", ["n"], query="INSERT INTO t VALUES (1, NULL)")
    with pytest.raises(InputError, match="no such file"):
        read(f"duckdb:///{tmp_path / 'absent.duckdb'}", ["n"], query="FROM t")


def test_postgresql_without_its_driver(read, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(HabitueError, match=r"'psycopg' is not installed.*habitue\[sql\]"):
        read("postgresql://db/shop", ["a"], query="SELECT 1")


@pytest.mark.slow
def test_postgresql_for_real(postgres, read, tmp_path):
    import psycopg

    server = postgres.address

    with psycopg.connect(server) as connection:
        connection.execute("CREATE TABLE orders (at timestamptz, item text, price numeric, who int)")
        connection.execute(
            "INSERT INTO orders SELECT timestamptz '2024-01-01 10:00+02' + n * interval '1 minute', '杯' || n % 7, "
            "n / 100.0, n % 50 FROM generate_series(1, 120000) n"
        )
    wanted = ["at", "item", "price", "who"]
    frame = read(server, wanted, query="SELECT * FROM orders ORDER BY at")
    assert frame.height == 120_000
    at, item, price, who = frame.row(0)
    assert at.startswith("2024-01-01T") and (item, float(price), who) == ("杯1", 0.01, "1")
    for query, words in (
        ("SELECT * FROM nothing", "the database answers: relation .* does not exist"),
        ("DELETE FROM orders RETURNING *", "the database answers"),
    ):
        with pytest.raises(InputError, match=words):
            read(server, wanted, query=query)
    with pytest.raises(InputError, match="the database answers") as raised:
        read("postgresql://ann:secret@/nothing?host=/nowhere", ["a"], query="SELECT 1")
    assert "secret" not in str(raised.value)

    from habitue import collect
    from habitue.core.workspace import init

    mapping = collect.Mapping(
        source="pg",
        time_zone="UTC",
        columns={"at": "at", "item_id": "item", "price": "price"},
        user=collect.mapping.User("who"),
        query="SELECT * FROM orders",
    )
    shop = init(tmp_path / "shop")
    done = collect.import_file(shop, server, mapping)
    assert (done.new, done.users, done.refused, done.money) == (120_000, 50, 0, 72_000_600.0)
    assert collect.import_file(shop, server, mapping).new == 0


def test_a_damaged_database_whose_own_words_are_no_text_is_said_in_words(shop, read):
    broken = shop.read_bytes().replace(b"tableorders", b"tableor\xe2\x82rs", 1).replace(b"CREATE", b"CREBTE", 1)
    shop.write_bytes(broken)
    with pytest.raises(InputError, match="the database answers: what it says is no text: the file is damaged"):
        read(dsn(shop), ["item"], query=QUERY)
