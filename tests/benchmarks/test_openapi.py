"""R3: no 5xx and no hang over the server's own description, and the script that says so would notice."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks/reliability/openapi.py"))
METRICS = """
habitue_http_request_duration_seconds_bucket{route="/a",method="GET",code="200",le="10"} 3
habitue_http_request_duration_seconds_bucket{route="/a",method="GET",code="200",le="+Inf"} 4
habitue_http_request_duration_seconds_bucket{route="/a",method="POST",code="503",le="10"} 1
habitue_http_request_duration_seconds_bucket{route="/a",method="POST",code="503",le="+Inf"} 1
habitue_http_request_duration_seconds_bucket{route="/b",method="GET",code="404",le="10"} 2
habitue_http_request_duration_seconds_bucket{route="/b",method="GET",code="404",le="+Inf"} 2
"""


def test_the_committed_result_has_no_5xx_and_no_hang():
    path = ROOT / "benchmarks/reliability/none-r3-openapi.json"
    found = {row["metric"]: row["mean"] for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    assert found["requests"] > 2_000 and found["routes"] >= 55 and found["answered 2xx"] > 500
    assert found["answered 5xx"] == found["later than 10 s"] == found["kinds of failure"] == 0
    assert found["exit code of the server"] == 0
    assert found["memory after, MB"] < found["memory before, MB"] + 200


def test_what_fails_or_hangs_would_be_counted():
    assert SCRIPT["counts"](METRICS) == {
        "routes": 2,
        "requests": 7,
        "answered 2xx": 4,
        "answered 4xx": 2,
        "answered 5xx": 1,
        "later than 10 s": 1,
    }


@pytest.mark.slow
def test_twenty_seconds_find_nothing(tmp_path):
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    found, failures = SCRIPT["fuzzed"](SCRIPT["trained"](tmp_path / "shop"), 20, 1)
    assert failures == [] and found["answered 5xx"] == found["later than 10 s"] == 0 and found["requests"] > 200
