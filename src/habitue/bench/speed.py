"""`habitue bench speed`: how fast, beside what bounds it, measured in the same run.

    P2  EASE and SLIST in closed form on I items        bound: the multiplications at this machine's own rate
    P3  top-10 for every user, full catalogue           bound: the matrix product alone; peer: implicit's own recommend
    P6  sessions and per-user aggregates                peer: DuckDB, where it is installed; equal results
    P7  texts through the sentence encoder              bound: the encoder alone, on the same texts
    P8  start of Python, of the package, of `--help`    bound: python itself
    P9  `habitue demo`                                  minutes; runs only when it is named

Every number is the median over repeats. A part that lacks what it needs says so, and the others go on.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue import encode
from habitue.bench import sequences
from habitue.collect import bundled
from habitue.core import engine
from habitue.core.engine import Step
from habitue.core.engines.local import LocalEngine
from habitue.core.errors import HabitueError, MissingExtraError, ModelError
from habitue.core.extras import need
from habitue.core.progress import stage
from habitue.core.runtime import Runtime, forget_peak, peak_mb
from habitue.core.schemas import EVENTS, METRICS, Metrics
from habitue.encode import onnx, sentence, weights
from habitue.evaluate import nearest
from habitue.model import als, behaviour, ease, slist
from habitue.model.past import Floats, Past
from habitue.prepare.activity import COLUMNS, activity

SHAPE = (22_363, 12_101, 8.9)  # users, items, events a user: Amazon Beauty, the usual set of this measure
BLOCK = 30  # items a taste of the planted catalogue holds
GEMM = 2_048  # rows of the product that tells this machine's rate
DRAWS = 1_000
LIST = 10
CHECKED = 512  # users whose lists are held against sorting the catalogue
BUCKETS = 8  # of users, one after the other in P6
BATCH = 32  # texts the encoder alone is given at once


@dataclass(frozen=True)
class Options:
    """What is measured, and how large."""

    repeats: int = 3
    events: pl.DataFrame | None = None  # for P2 and P3; None = a planted catalogue
    items: int = SHAPE[1]
    users: int = SHAPE[0]
    rows: int = 1_000_000  # of P6; the table's own size is 10 million
    texts: int = 1_000  # of P7
    steps: int = 20  # of training before `behaviour` is asked: its speed does not depend on how well it knows


@dataclass(frozen=True)
class Timed:
    """One measured thing: what was repeated, and what bounds it."""

    part: str  # P2, ...
    name: str  # of the model or the program
    metric: str  # "CPU-seconds", "users per CPU-second", "seconds"
    values: tuple[float, ...]  # one a repeat
    cpu_s: float  # median of a repeat
    peak_mb: float
    bound: str = ""  # in words, "" = it is itself a bound or a peer
    ratio: float | None = None  # to the bound, above 1 = slower than it


@dataclass
class Result:
    """Everything that was measured, and the parts that could not be."""

    timed: list[Timed] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # part -> why, in words


def run(parts: Sequence[str], options: Options, *, runtime: Runtime) -> Result:
    """Measure the `parts` (keys of PARTS) one after the other; the threads are those of `runtime`."""
    result = Result()
    for name in parts:
        try:
            with stage(f"{name}: {SAID[name]}"):
                forget_peak()
                for timed in PARTS[name](options, runtime, result.refused):
                    result.timed.append(timed)
        except HabitueError as error:
            result.refused[name] = str(error)
    return result


def metrics(result: Result, *, dataset: str) -> Metrics:
    """Return METRICS: slice = the part, mean = the median, low and high its 95 % interval over draws of the repeats.

    What has a bound has a second row, "times its bound".
    """
    rng = np.random.default_rng(0)
    rows = []
    for one in result.timed:
        values = np.array(one.values)
        low: float | None = None
        high: float | None = None
        if len(values) > 1:
            medians = np.median(rng.choice(values, size=(DRAWS, len(values))), axis=1)
            low, high = (float(q) for q in np.quantile(medians, [0.025, 0.975]))
        row: dict[str, Any] = {
            "dataset": dataset,
            "protocol": "SPEED",
            "model": one.name,
            "modalities": [],
            "slice": one.part,
        }
        row |= {"n": len(values), "seeds": 1, "cpu_s": one.cpu_s, "peak_mb": one.peak_mb}
        rows.append(
            row | {"metric": f"median {one.metric}", "mean": float(np.median(values)), "low": low, "high": high}
        )
        if one.ratio is not None:
            rows.append(row | {"metric": "times its bound", "mean": one.ratio, "low": None, "high": None})
    return METRICS.shape(pl.DataFrame(rows, schema_overrides={"modalities": pl.List(pl.String)}))


def planted(users: int, items: int, each: float, *, seed: int = 0) -> pl.DataFrame:
    """Return user, item, order of a made-up shop: tastes of BLOCK items, popularity as one over rank within them."""
    rng = np.random.default_rng(seed)
    count = 3 + rng.poisson(max(each - 3, 0), users)
    owner = np.repeat(np.arange(users), count)
    tastes = max(items // BLOCK, 1)
    taste = rng.integers(0, tastes, users)[owner]
    strayed = rng.random(len(owner)) < 0.3
    taste[strayed] = rng.integers(0, tastes, int(strayed.sum()))
    place = np.minimum((BLOCK ** rng.random(len(owner))).astype(np.int64) - 1, BLOCK - 1)
    item = np.concatenate([np.arange(items), (taste * BLOCK + place) % items])  # every item is bought once at least
    owner = np.concatenate([rng.integers(0, users, items), owner])
    frame = pl.DataFrame({"user": owner, "item": item}).unique(maintain_order=True)
    return frame.with_columns(order=pl.int_range(pl.len()).over("user")).sort("user", "order")


def closed_forms(options: Options, runtime: Runtime, refused: dict[str, str]) -> list[Timed]:  # noqa: ARG001
    """P2: CPU-seconds of the fit; the bound is I^3 floating-point operations at the rate of sgemm on this machine."""
    past = _past(options)
    items = len(past.items)
    rate = _rate()
    least = items**3 / rate
    words = f"{items:,}^3 = {items**3:.1e} operations at {rate / 1e9:.0f} GFLOP/s (sgemm, {GEMM:,} rows): {least:.1f} s"
    told = []
    for name, fit in (
        ("ease", lambda: ease.fit(past, ease.SEQUENCE, runtime=runtime)),
        ("slist", lambda: slist.fit(past, slist.SEQUENCE, runtime=runtime)),
    ):
        forget_peak()
        cpu = _repeated(fit, options.repeats)[0]  # no table is kept beside the next one
        ratio = float(np.median(cpu)) / least
        told.append(Timed("P2", name, "CPU-seconds", cpu, float(np.median(cpu)), peak_mb(), words, ratio))
    return told


def top_lists(options: Options, runtime: Runtime, refused: dict[str, str]) -> list[Timed]:
    """P3: users per CPU-second, full catalogue, seen masked; a sample of the lists is held against sorting it all."""
    past = _past(options)
    seen = _seen(past)
    told = []
    try:
        told.extend(_als(past, seen, options, runtime))
    except MissingExtraError as error:
        refused["P3 als"] = str(error)
    told.extend(_behaviour(past, seen, options, runtime)[1])
    return told


def _behaviour(
    past: Past, seen: sp.csr_matrix, options: Options, runtime: Runtime
) -> tuple[behaviour.State, list[Timed]]:
    config = replace(behaviour.SEQUENCE, window=50, steps=options.steps)
    state = behaviour.fit(past, config, runtime=runtime)
    users = len(past.known)

    def ours() -> tuple[behaviour.Answers, Any]:
        answers = behaviour.answers(state, past)
        lists = nearest.lists(answers.queries, answers.products, count=LIST, seen=seen, extra=answers.extra)
        return answers, lists

    cpu, (answers, lists) = _repeated(ours, options.repeats)
    _as_sorted(lists, answers.queries, answers.products, seen, "behaviour", extra=answers.extra)
    words, ratio, alone = _bounds(answers.queries, answers.products, cpu, options)
    return state, [
        _per_second("behaviour, window 50", users, cpu, words, ratio),
        _per_second("behaviour, product alone", users, alone),
    ]


def _als(past: Past, seen: sp.csr_matrix, options: Options, runtime: Runtime) -> list[Timed]:
    state = als.fit(past, als.Config(half_life_days=als.SEQUENCE.half_life_days, iterations=3), runtime=runtime)
    vectors, products = state.user_factors, state.item_factors
    users = len(vectors)
    cpu, lists = _repeated(lambda: nearest.lists(vectors, products, count=LIST, seen=seen), options.repeats)
    _as_sorted(lists, vectors, products, seen, "als")
    words, ratio, alone = _bounds(vectors, products, cpu, options)
    peer = _peer(vectors, products, seen, options, runtime)
    words += f", implicit's recommend {np.median(peer) / np.median(cpu):.2f}"
    return [
        _per_second("als", users, cpu, words, ratio),
        _per_second("als, product alone", users, alone),
        _per_second("implicit recommend", users, peer),
    ]


def _peer(
    queries: Floats, products: Floats, seen: sp.csr_matrix, options: Options, runtime: Runtime
) -> tuple[float, ...]:
    """Return the CPU-seconds of implicit's own lists from the same vectors. Raises MissingExtraError without it."""
    model = need("implicit.als", extra="als", purpose="bench.speed").AlternatingLeastSquares(
        factors=queries.shape[1], num_threads=runtime.threads, use_gpu=False
    )
    model.user_factors, model.item_factors = queries, products
    everyone = np.arange(len(queries))

    def theirs() -> Any:
        return model.recommend(everyone, seen, N=LIST, filter_already_liked_items=True)

    return _repeated(theirs, options.repeats)[0]


def _bounds(
    queries: Floats, products: Floats, cpu: Sequence[float], options: Options
) -> tuple[str, float, tuple[float, ...]]:
    """Return in words, as a ratio and in CPU-seconds what the float32 product of all users and products takes."""

    def product() -> None:
        for start in range(0, len(queries), nearest.USERS):
            queries[start : start + nearest.USERS] @ products.T

    alone, _ = _repeated(product, options.repeats)
    ratio = float(np.median(cpu) / np.median(alone))
    return f"the float32 product alone takes {1 / ratio:.2f} times as long", ratio, alone


def features(options: Options, runtime: Runtime, refused: dict[str, str]) -> list[Timed]:
    """P6: seconds of sessions (30 minutes) and per-user aggregates of `rows` events; DuckDB must agree to the digit."""
    events = _clicks(options.rows)
    step = Step("bench.speed", lambda rows: activity(rows, gap=dt.timedelta(minutes=30)), "one_user")
    of_bucket = (pl.col("user_key") % BUCKETS == bucket for bucket in range(BUCKETS))
    parts = [events.select(COLUMNS).filter(mine) for mine in of_bucket]  # as the lake holds them

    def ours() -> pl.DataFrame:
        return pl.concat(engine.map(step, parts, engine=LocalEngine()))

    wall, cpu, found = _walls(ours, options.repeats)
    told = [Timed("P6", f"habitue, {options.rows:,} events", "seconds", wall, float(np.median(cpu)), peak_mb())]
    try:
        duckdb = need("duckdb", extra="speed", purpose="bench.speed, the peer of P6")
    except MissingExtraError as error:
        refused["P6 peer"] = str(error)
        return told
    with duckdb.connect() as database, tempfile.TemporaryDirectory() as folder:
        database.execute(f"set threads to {runtime.threads}")
        path = Path(folder) / "events.parquet"
        events.select("user_key", "at", "item_id", "value").write_parquet(path)
        database.execute("create table events as select * from read_parquet(?)", [str(path)])  # not timed
        theirs, spent, found_there = _walls(lambda: database.execute(DUCKDB).fetchnumpy(), options.repeats)
    rival = pl.DataFrame({name: found_there[name] for name in ("user_key", "events", "sessions", "items", "money")})
    _agree(found, rival)
    ratio = float(np.median(wall) / np.median(theirs))
    bound = f"DuckDB with {runtime.threads} thread(s) takes {np.median(theirs):.2f} s for the same table"
    peer = Timed("P6", "duckdb", "seconds", theirs, float(np.median(spent)), peak_mb())
    return [Timed("P6", told[0].name, "seconds", wall, told[0].cpu_s, told[0].peak_mb, bound, ratio), peer]


DUCKDB = """
with gaps as (
    select user_key, "at", item_id, value,
           ("at" - lag("at") over (partition by user_key order by "at") > interval 30 minutes)::int as late
    from events
)
select user_key, count(*) as events, coalesce(sum(late), 0)::bigint + 1 as sessions, count(distinct item_id) as items,
       sum(value) as money, max("at") as last
from gaps group by user_key
"""


def encoders(options: Options, runtime: Runtime, refused: dict[str, str]) -> list[Timed]:  # noqa: ARG001
    """P7: texts per CPU-second through `encode.run` from an empty cache, against the encoder's own session.

    Pictures need photographs: benchmarks/speed/encode.py measures them, in files of a folder of yours.
    """
    session = onnx.session(weights.path(sentence.NAME), threads=runtime.threads, extra="text", strings=True)
    titles = pl.read_parquet(bundled.ledger().file, columns=["Description"])["Description"]
    texts = titles.drop_nulls().unique(maintain_order=True).head(options.texts)
    things = pl.DataFrame({"id": [str(n) for n in range(len(texts))], "text": texts})
    given = texts.to_numpy()

    def alone() -> None:
        for i in range(0, len(given), BATCH):
            session.run(None, {"inputs": given[i : i + BATCH]})

    def ours() -> None:
        with tempfile.TemporaryDirectory() as cache:
            encode.run("sentence", things, cache=Path(cache))

    alone()  # the first calls load and warm
    ours()
    bare, _ = _repeated(alone, options.repeats)
    cpu, _ = _repeated(ours, options.repeats)
    ratio = float(np.median(cpu) / np.median(bare))
    bound = f"the encoder alone, {BATCH} texts at once, takes {1 / ratio:.2f} times as long"
    rate = "texts per CPU-second"
    return [
        Timed(
            "P7",
            f"encode.run sentence, {len(texts):,} titles",
            rate,
            _rates(len(texts), cpu),
            float(np.median(cpu)),
            peak_mb(),
            bound,
            ratio,
        ),
        Timed("P7", "the encoder alone", rate, _rates(len(texts), bare), float(np.median(bare)), peak_mb()),
    ]


def start(options: Options, runtime: Runtime, refused: dict[str, str]) -> list[Timed]:  # noqa: ARG001
    """P8: wall seconds of fresh processes, their files in the page cache; they take turns."""
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "import habitue": [sys.executable, "-c", "import habitue"],
        "habitue --help": [str(Path(sys.executable).with_name("habitue")), "--help"],
    }
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(options.repeats + 1):  # turn 0 fills the page cache
        for name, command in commands.items():
            wall, cpu, _ = _process(command)
            if turn:
                runs[name].append((wall, cpu))
    base = float(np.median([wall for wall, _ in runs["python"]]))
    told = []
    for name, pairs in runs.items():
        walls = tuple(w for w, _ in pairs)
        bound = "" if name == "python" else f"python alone: {base:.3f} s"
        ratio = None if name == "python" else float(np.median(walls)) / base
        told.append(Timed("P8", name, "seconds", walls, float(np.median([c for _, c in pairs])), 0.0, bound, ratio))
    return told


def demo(options: Options, runtime: Runtime, refused: dict[str, str]) -> list[Timed]:  # noqa: ARG001
    """P9: wall seconds, CPU-seconds and peak memory of one `habitue demo`; the limits are 5 minutes and 4 GiB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("habitue")), "demo", "--workspace", f"{folder}/shop"]
        wall, cpu, peak = _process(command)
    return [Timed("P9", "habitue demo", "seconds", (wall,), cpu, peak, "the limit is 300 s and 4,096 MB", wall / 300)]


Part = Callable[[Options, Runtime, dict[str, str]], list[Timed]]
PARTS: Mapping[str, Part] = {
    "P2": closed_forms,
    "P3": top_lists,
    "P6": features,
    "P7": encoders,
    "P8": start,
    "P9": demo,
}
SAID = {
    "P2": "closed forms",
    "P3": "top-10 lists",
    "P6": "sessions and aggregates",
    "P7": "texts through the encoder",
    "P8": "start",
    "P9": "the whole demo",
}
DEFAULT = ("P2", "P3", "P6", "P7", "P8")  # P9 takes minutes


def _past(options: Options) -> Past:
    frame = planted(options.users, options.items, SHAPE[2]) if options.events is None else options.events
    return sequences.read(frame).past(horizon_days=1)


def _seen(past: Past) -> sp.csr_matrix:
    every = past.histories
    owner = every.set_user[every.row_set]
    shape = (len(every.user_keys), len(past.items))
    matrix = sp.csr_matrix((np.ones(len(owner), dtype=np.float32), (owner, every.row_item)), shape=shape)
    matrix.sum_duplicates()
    return matrix


def _clicks(rows: int, *, seed: int = 0) -> pl.DataFrame:
    """Return `rows` EVENTS in order of time: 20 a user on average, pauses of minutes and of days."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, max(rows // 20, 1), rows)
    at = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    seconds = np.sort(rng.integers(0, 90 * 86_400, rows // 4 + 1).repeat(4)[:rows] + rng.integers(0, 3_600, rows))
    frame = pl.DataFrame(
        {
            "user_key": users,
            "seconds": seconds,
            "item_id": rng.integers(0, 20_000, rows),
            "value": rng.integers(1, 5_000, rows) / 4,  # quarters add up without rounding, in any order
        }
    )
    frame = frame.with_columns(
        at=pl.lit(at).cast(pl.Datetime("us", "UTC")) + pl.duration(seconds="seconds"),
        item_id=pl.format("I{}", "item_id"),
        event_id=pl.int_range(pl.len()).cast(pl.String),
        line=pl.lit(0),
        kind=pl.lit("Product Viewed"),
        source=pl.lit("speed"),
        import_id=pl.lit("speed"),
    )
    return EVENTS.shape(frame.drop("seconds"))


def _agree(ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    columns = ["user_key", "events", "sessions", "items", "money"]
    a, b = (
        f.select(pl.col(c).cast(pl.Float64 if c == "money" else pl.Int64) for c in columns).sort("user_key")
        for f in (ours, theirs)
    )
    if not a.equals(b):
        raise ModelError(
            "bench.speed, P6",
            found="DuckDB and Habitue do not agree on sessions and aggregates",
            consequence="Their times would be of different work",
            remedy="Report this with the versions of both",
        )


def _as_sorted(
    lists: tuple[Any, Floats],
    queries: Floats,
    products: Floats,
    seen: sp.csr_matrix,
    model: str,
    *,
    extra: sp.csr_matrix | None = None,
) -> None:
    """Hold the lists of CHECKED users, evenly spaced, against sorting the whole catalogue in float32."""
    some = np.unique(np.linspace(0, len(queries) - 1, CHECKED).astype(np.int64))
    scores = queries[some] @ products.T
    if extra is not None:
        scores = scores + extra[some].toarray()
    masked = np.where(seen[some].toarray() > 0, -np.inf, scores)
    order = np.argsort(-masked, axis=1, kind="stable")[:, :LIST]
    rows, places = np.arange(len(some))[:, None], lists[0][some]
    equal = (order == places) | np.isclose(masked[rows, order], masked[rows, places], rtol=1e-5, atol=1e-6)
    if not equal.all():
        raise ModelError(
            f"bench.speed, P3, {model}",
            found=f"{int((~equal).any(axis=1).sum())} of {len(masked)} lists are not those of sorting the catalogue",
            consequence="A fast list that is wrong is worth nothing",
            remedy="Report this with the file that was measured",
        )


def _rate() -> float:
    """Return the float32 operations a CPU-second of a matrix product, the best of three."""
    a = np.ones((GEMM, GEMM), dtype=np.float32)
    spent, _ = _repeated(lambda: a @ a, 3)
    return 2 * GEMM**3 / min(spent)


def _per_second(name: str, users: int, cpu: Sequence[float], bound: str = "", ratio: float | None = None) -> Timed:
    return Timed("P3", name, "users per CPU-second", _rates(users, cpu), float(np.median(cpu)), peak_mb(), bound, ratio)


def _rates(things: int, seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(things / spent for spent in seconds)


def _repeated(work: Callable[[], Any], repeats: int) -> tuple[tuple[float, ...], Any]:
    """Return the CPU-seconds of each repeat, all threads together, and the last result."""
    _, spent, found = _walls(work, repeats)
    return spent, found


def _walls(work: Callable[[], Any], repeats: int) -> tuple[tuple[float, ...], tuple[float, ...], Any]:
    walls, spent, found = [], [], None
    for _ in range(repeats):
        found = None  # or the peak would be that of two
        wall, cpu = time.perf_counter(), time.process_time()
        found = work()
        walls.append(time.perf_counter() - wall)
        spent.append(max(time.process_time() - cpu, 1e-9))
    return tuple(walls), tuple(spent), found


# A small process starts the program: a child's peak memory begins with that of whoever started it (Linux).
LAUNCH = """
import json, os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - begun
print(json.dumps([os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


def _process(command: Sequence[str]) -> tuple[float, float, float]:
    """Run a program; return wall seconds, CPU-seconds and peak MB. Raises ModelError when it fails."""
    launched = subprocess.run([sys.executable, "-c", LAUNCH, *command], stdout=subprocess.PIPE, text=True, check=True)
    code, wall, cpu, peak = json.loads(launched.stdout)
    if code:
        raise ModelError(
            "bench.speed",
            found=f"'{' '.join(Path(c).name for c in command)}' ended with {code}",
            consequence="Its time means nothing",
            remedy="Run it by hand and see what it says",
        )
    return wall, cpu, _megabytes(peak)


def _megabytes(peak: float) -> float:
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
