"""The proof that the leave-one-out protocol is the published one: classical models reach their known numbers."""

import os
import tomllib
from pathlib import Path

import pytest

from habitue.bench import files, protocols, ranking, sequences
from habitue.core.runtime import detect

QUALITY = Path(__file__).parents[2] / "benchmarks/quality"
KNOWN = {  # NDCG@10, fitted with the validation event, full catalogue, history masked
    ("amazon_s3rec/Beauty_sequences.parquet", "known-beauty.toml"): {"neighbours": 0.0390, "ease": 0.0400},
    ("ml1m/sequences_sasrec_order.parquet", "known-ml-1m.toml"): {"ease": 0.0536},
}


@pytest.mark.slow
@pytest.mark.skipif("HABITUE_DATA" not in os.environ, reason="HABITUE_DATA is not set")
@pytest.mark.parametrize(("file", "settings"), KNOWN)
def test_classical_models_reach_their_known_values(file, settings):
    data = sequences.read(files.read(Path(os.environ["HABITUE_DATA"]) / file, what="--events"))
    task = protocols.leave_one_out(data, protocols.Settings(refit=True))
    given = tomllib.loads((QUALITY / settings).read_text())
    known = KNOWN[file, settings]
    options = ranking.Options(models=tuple(known), settings=given)
    result = ranking.run(data, task, options, dataset="known", runtime=detect())
    for model, value in known.items():
        found = result.metrics.filter(model=model, metric="ndcg@10")["mean"].item()
        assert found == pytest.approx(value, rel=0.02), model
