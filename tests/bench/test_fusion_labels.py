"""Things whose kind is half told by a picture and half by a title."""

import numpy as np
import pytest
import scipy.sparse as sp

from habitue.bench import fusion_labels
from habitue.core.runtime import Runtime
from habitue.model import fuse

COUNT, HALF = 120, 3  # nine kinds: the picture tells the row of a square, the title its column


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    kind = rng.integers(HALF * HALF, size=COUNT)
    views = {}
    for name, part in (("text", kind % HALF), ("picture", kind // HALF)):
        rows = np.eye(HALF)[part] + 0.05 * rng.normal(size=(COUNT, HALF))
        views[name] = sp.csr_matrix((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    ids, fold = [f"i{n}" for n in range(COUNT)], np.arange(COUNT) % 2
    return fusion_labels.run(
        views, [f"k{k}" for k in kind], ids=ids, fold=fold, conditions=("as it is", "missing 100"),
        seeds=2, runtime=Runtime(threads=1),
    )  # fmt: skip


def right(cells, subset, fusion=None, how="", condition="as it is") -> float:
    (cell,) = [c for c in cells if (c.subset, c.fusion, c.how, c.condition) == (subset, fusion, how, condition)]
    return float(np.mean(cell.measured[0].values))


def test_every_subset_in_every_fusion(cells):
    met = [(c.subset, c.fusion, c.how, c.condition) for c in cells]
    assert len(met) == len(set(met)) == 2 * (2 + 4 + 3)
    assert {len(c.measured[0].values) for c in cells} == {COUNT}


def test_each_seed_is_another_network(cells):
    assert {c.seeds for c in cells} == {2}
    shares = {share for c in cells for share in c.measured[0].values.tolist()}
    assert shares == {0, 0.5, 1}  # right never, once, twice


def test_both_together_tell_what_neither_tells_alone(cells):
    both = ("picture", "text")
    alone = max(right(cells, (name,)) for name in both)
    assert alone < 0.55
    for kind in fuse.WAYS:
        assert right(cells, both, kind) > 0.9, kind
    for how in fuse.LATE:
        assert right(cells, both, "decision", how) > alone + 0.1, how


def test_without_anything_the_commonest_is_told(cells):
    assert right(cells, ("text",), condition="missing 100") < 0.3
    assert right(cells, ("picture", "text"), "gate", condition="missing 100") < 0.3
