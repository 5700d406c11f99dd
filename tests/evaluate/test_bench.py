import json
import sys

import numpy as np
import pytest

from habitue import __version__
from habitue.core.errors import SchemaError, UsageError
from habitue.core.schemas import METRICS
from habitue.evaluate import bench, table
from habitue.evaluate.measured import per_user


def rows(protocol="BASKET", n=100):
    one = per_user(protocol, "popular", "all", "hit@10", np.arange(n), np.arange(n) % 2.0)
    return table([one], dataset="Online Retail", modalities=["events"], cpu_s=1.5)


def test_a_document_holds_what_the_schema_says():
    told = bench.document(rows(), commit="abc")
    assert list(told) == ["machine", "commit", "versions", "dataset", "protocol", "rows"]
    assert (told["commit"], told["dataset"], told["protocol"]) == ("abc", "Online Retail", "BASKET")
    assert told["versions"]["numpy"] == np.__version__
    assert "cores" in told["machine"]
    (row,) = told["rows"]
    low, high = row.pop("low"), row.pop("high")
    assert 0.38 < low < 0.5 < high < 0.62
    assert row == {
        "model": "popular", "fusion": None, "modalities": ["events"], "slice": "all", "metric": "hit@10", "mean": 0.5,
        "n": 100, "seeds": 1, "cpu_s": 1.5, "peak_mb": None,
    }  # fmt: skip


def test_the_accelerator_is_named_where_there_is_one(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    without = bench.machine()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Accelerator 9")
    assert bench.machine() == f"{without}, Accelerator 9"
    monkeypatch.delitem(sys.modules, "torch")
    assert bench.machine() == without


def test_one_file_a_data_set_and_protocol_replaced_whole(tmp_path):
    folder = tmp_path / "quality"
    metrics = rows().vstack(rows("churn-92d", n=1))
    paths = bench.write(metrics, folder, commit="abc")
    assert [p.name for p in paths] == ["online-retail-basket.json", "online-retail-churn-92d.json"]
    assert [json.loads(p.read_text())["protocol"] for p in paths] == ["BASKET", "churn-92d"]
    assert json.loads(paths[1].read_text())["rows"][0]["low"] is None
    bench.write(metrics, folder, commit="def")
    assert sorted(folder.iterdir()) == paths
    assert json.loads(paths[0].read_text())["commit"] == "def"


def test_a_header_names_the_revision_or_else_the_version():
    assert bench.header("d", "p", commit="abc")["commit"] == "abc"
    told = bench.header("d", "p")
    assert told["commit"] == f"habitue {__version__}"
    assert bench.document(rows())["commit"] == told["commit"]


def test_what_cannot_be_json_leaves_the_older_file(tmp_path):
    path = bench.save({"mean": 1.5, "word": "ä"}, tmp_path / "new" / "one.json")
    assert path.read_text(encoding="utf-8") == '{\n "mean": 1.5,\n "word": "ä"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        bench.save({"mean": float("nan")}, path)
    assert json.loads(path.read_text())["mean"] == 1.5
    assert list(path.parent.iterdir()) == [path]


def test_two_protocols_are_no_document():
    with pytest.raises(
        UsageError, match=r"evaluate.bench: the rows are of 2 pairs of data set and protocol.*write\(\)"
    ):
        bench.document(rows().vstack(rows("churn-92d")), commit="abc")
    with pytest.raises(UsageError, match="the rows are of 0 pairs"):
        bench.document(METRICS.empty(), commit="abc")


def test_what_is_no_metrics_table_is_refused(tmp_path):
    with pytest.raises(SchemaError, match="evaluate.bench"):
        bench.write(rows().drop("mean"), tmp_path, commit="abc")
    assert not list(tmp_path.iterdir())


def test_packages_that_are_not_installed_have_no_version():
    assert list(bench.versions(["numpy", "no-such-package"])) == ["python", "numpy"]
