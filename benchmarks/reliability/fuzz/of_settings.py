"""What a person writes: habitue.toml, a mapping, the rules of an older server, recipes and moments."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import of_files
from loop import Group, Parser

from habitue import plan
from habitue.collect.mapping import read_mapping
from habitue.core import settings
from habitue.core.errors import HabitueError
from habitue.core.workspace import open_workspace
from habitue.prepare import recipe
from habitue.serve import experiments, operational, rules

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
PLAN: dict[str, Any] = {
    "horizon_days": 92,
    "cut": "2024-09-01",
    "seed": 0,
    "traits": ["plan"],
    "workspace": {"schema_version": 2, "buckets": 8, "currency": "EUR"},
    "source": [{"file": "a.csv", "mapping": "a.toml"}],
    "season": {"factor": 1.2, "source": "words"},
    "collect": {"horizon_days": 30, "compact_s": 60.0, "media_mb": 8},
    "adapt": {"every_hours": 1.0, "canary": 0.1},
    "serve": {"store": "", "hold_out": 0.1, "hold_out_lists": "popular", "exact_products": 200_000},
    "consent": {"analytics": True, "marketing": False},
    "blend": {"trees": {"prepare": "outliers=winsorise,impute=median"}, "newcomers": {"weight": 0.0}},
    "erase": {"sign": False},
    "check": {"least": {"events.customer named": 0.6}, "most": {"exact_repeat": 0.02, "drift": 0.25}},
    "experiment": [
        {
            "name": "a",
            "arms": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5, "lists": "popular"}],
            "placements": ["home"],
        }
    ],
    "words": {"piece_min": 3, "min_titles": 1},
}
MAPPING: dict[str, Any] = {
    "source": "shop",
    "time_zone": "Europe/London",
    "currency": "GBP",
    "decimal": ".",
    "time_formats": ["%d.%m.%Y", "seconds"],
    "columns": of_files.EVENTS,
    "user": {"column": "Customer", "nobody": ["0"], "anonymous": "Visitor"},
    "user_attributes": {"country": "Kind"},
    "extra": {"note": "Said"},
    "kind": {"default": "Order Completed", "rules": [{"field": "order_id", "prefix": "C", "kind": "Order Refunded"}]},
}
FORM = {"header": True, "quotes": True, "delimiter": ",", "encoding": "utf-8", "lines": "a"}
FORM |= {"what": "events", "fixed": {"channel": "web"}, "valid_from": "2026-05-01", "time_format": "%Y-%m-%d %H:%M:%S"}
FULL = json.dumps(MAPPING | FORM).encode()
RULE = {"id": "a1", "action": "boost", "items": ["A"], "category": "Home", "placement": "home", "number": 1.0}


def toml(value: Any) -> str:
    """Write a JSON value as TOML, top level in lines; null is left out."""
    if not isinstance(value, dict):
        return _inline(value)
    return "".join(f"{_inline(str(key))} = {_inline(one)}\n" for key, one in value.items() if one is not None)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inline(str(k))} = {_inline(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(one) for one in value if one is not None) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}.get(json.dumps(value), json.dumps(value))


def _told(body: bytes) -> bytes:
    """Write what JSON tells as TOML; anything else stays as it is."""
    try:
        return toml(json.loads(body)).encode(errors="surrogatepass")
    except (ValueError, RecursionError):
        return body


def plan_of(body: bytes) -> Counter[str]:
    """Read a plan by every door that reads one."""
    path = FOLDER / "habitue.toml"
    path.write_bytes(body)
    refused: HabitueError | None = None
    doors: tuple[Callable[[], Any], ...] = (
        lambda: plan.load(path),
        lambda: open_workspace(FOLDER),
        lambda: operational.address(FOLDER / "state"),
    )
    for door in doors:
        try:
            door()
        except HabitueError as error:
            refused = error
    if refused is not None:
        raise refused
    return Counter({"accepted": 1})


def declared(_: bytes) -> None:
    """Begin the plan's experiments, as a server does when it starts."""
    with tempfile.TemporaryDirectory() as lost:
        (Path(lost) / "habitue.toml").write_bytes((FOLDER / "habitue.toml").read_bytes())
        (Path(lost) / "state").mkdir()
        experiments.declare(Path(lost) / "state")


def mapping_of(body: bytes) -> Counter[str]:
    """Read a mapping, and a good file under it."""
    path = FOLDER / "mapping.toml"
    path.write_bytes(body)
    mapping = read_mapping(path)
    of_files.FILE.write_bytes(of_files.GOOD)
    of_files.rows(mapping)
    return Counter({"accepted": 1})


def _imported(_: bytes) -> None:
    of_files.imported(read_mapping(FOLDER / "mapping.toml"))


def rules_of(body: bytes) -> Counter[str]:
    """Take over the rules of an older server's file."""
    with tempfile.TemporaryDirectory() as lost:
        (Path(lost) / rules.BEFORE).write_bytes(body)
        return Counter({"accepted": len(rules.listed(Path(lost)))})


def _words(read: Callable[[str], Any]) -> Callable[[bytes], Counter[str]]:
    def counted(body: bytes) -> Counter[str]:
        read(body.decode(errors="replace"))
        return Counter({"accepted": 1})

    return counted


def _of(read: Callable[[bytes], Counter[str]]) -> Callable[[bytes], Counter[str]]:
    return lambda body: read(_told(body))


PARSERS = (
    Parser("plan", (toml(PLAN).encode(),), plan_of, declared),
    Parser("plan, values", (json.dumps(PLAN).encode(),), _of(plan_of), declared),
    Parser("mapping", (toml(MAPPING).encode(),), mapping_of, _imported),
    Parser(
        "mapping, values",
        (FULL, json.dumps(MAPPING).encode()),
        _of(mapping_of),
        _imported,
    ),
    Parser("rules", (json.dumps([RULE, RULE | {"action": "pin"}]).encode(),), rules_of),
    Parser("recipe", (b"impute=median, scale=robust,outliers=winsorise",), _words(recipe.parse)),
    Parser("moment", (b"2011-09-09", b"2011-09-09T12:00:00+02:00"), _words(settings.moment)),
)
GROUP = Group("settings", "habitue", PARSERS, (HabitueError,), ("accepted",))
