"""Q3, new films: what facts of their first day add to where they stand, on MovieLens-100k by time, condition COLD.

    python benchmarks/quality/cold.py [--folder FITS] [--seeds 1]

As in fusion.py: one film of every five of like ratings loses every event before the moment; asked is what 90 users
rated later of these films, among these films alone. `behaviour` with all modalities (gate) is fitted without their
events and with them. Facts: genres, year, days since the release, length, language; what the film cost to make is left
out, for it may have been written down later, and so is what it earned and how it was voted. `foretold`: the sales
expected of a film by model/newcomers.py, learnt from the films that kept their events. The weight between the two is
found at the earlier moment of validation, at which other films were taken in the same way; the test is looked at once.
$HABITUE_DATA/ml100k; the fits of `fusion.py --folder` are used where they are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import ground
import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue import evaluate
from habitue.bench import fusion, fusion_fits, modalities, protocols, sequences
from habitue.bench.fusion_fits import AS_IT_IS, COLD_ITEMS, Fit, Job
from habitue.bench.protocols import Question, Task
from habitue.bench.ranking import mean_of_seeds
from habitue.core.runtime import Runtime, detect
from habitue.core.settings import fill, read_toml
from habitue.evaluate import bench
from habitue.evaluate.measured import Measured, per_user
from habitue.evaluate.ranking import slices, values
from habitue.model import behaviour, newcomers
from habitue.model.past import TRAITS, Floats, Past, bought

HERE = Path(__file__).parent
PROTOCOL, NAME = "COLD, new films", "behaviour"
WITH = f"{NAME}, their events kept"


def films(home: Path, vectors: Path | None) -> tuple[pl.DataFrame, sequences.Sequences]:
    """Return the table of films, and the ratings with every modality as fusion.py gives them."""
    table = pl.read_parquet(home / "items_multimodal.parquet")
    told = table.select("item_id", "title", "genres", "overview", "tagline", "poster_jpg")
    people = pl.read_parquet(home / "users.parquet").drop("zip_code")
    ratings = pl.read_parquet(home / "interactions.parquet")
    data = sequences.read(ratings, told, wanted=modalities.names(told), people=people, cache=vectors)
    content = {name: fusion.narrow(rows) for name, rows in data.content.items()}
    return table, dataclasses.replace(data, content=content)


def facts(table: pl.DataFrame, past: Past) -> np.ndarray:
    """Return what is known of each film on its first day, [I, F]; NaN = unknown."""
    named = pl.DataFrame({"item_id": list(past.items)})
    table = named.join(table.with_columns(pl.col("item_id").cast(pl.String)), on="item_id", how="left")
    released = table["release_date"].str.to_date("%d-%b-%Y", strict=False)
    year = table["title"].str.extract(r"\((\d{4})\)").cast(pl.Float64)
    genres = sorted({name for some in table["genres"].drop_nulls() for name in some})
    columns = [
        *(table["genres"].list.contains(name).cast(pl.Float64) for name in genres),
        year,
        past.day - released.cast(pl.Int32).cast(pl.Float64),
        released.dt.month().cast(pl.Float64),
        table["runtime"].replace(0.0, None),
        (table["original_language"] == "en").cast(pl.Float64),
    ]
    return np.column_stack([column.fill_null(float("nan")).to_numpy() for column in columns])


def earlier(task: Task) -> Question:
    """Return validation with what its users rated later among the films they had not rated, as the test asks."""
    past = task.validation.fit
    since = task.test.fit.histories
    later = bought(since.keep_sets(since.set_at >= past.day), len(past.items))
    there = (np.diff(past.histories.set_start) > 0).astype(np.float32)
    later = sp.csr_matrix(sp.diags_array(there) @ later)
    later.eliminate_zeros()
    new = slices(later, bought(past.histories, len(past.items)))["first_time"]
    return Question(past, past, {"all": task.validation.slices["all"], "later": new})


def judged(name: str, scores: Floats, question: Question, users: np.ndarray) -> list[Measured]:
    """Return NDCG@10 and HR@10 of each user among the cold films."""
    relevant, masked = question.slices["cold"]
    mine = relevant[users]
    rows = np.flatnonzero(np.diff(mine.indptr))
    told = values(scores[rows], mine[rows], masked[users][rows], cutoffs=(10,))
    keys = question.ask.histories.user_keys[users][rows]
    return [per_user(PROTOCOL, name, "cold", metric, keys, told[metric]) for metric in ("ndcg@10", "hit@10")]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--folder", type=Path, help="where fusion.py keeps its fits")
    asked.add_argument("--seeds", type=int, default=1)
    options = asked.parse_args()
    table, data = films(ground.tables() / "ml100k", options.folder and options.folder / "vectors")
    task, runtime = protocols.time(data, protocols.Settings()), detect()
    settings = read_toml(HERE / "fusion-ml-100k.toml")[NAME]
    config = fill(behaviour.Config, dataclasses.asdict(behaviour.Config()) | settings, where="fusion-ml-100k.toml")
    rests = repr(((protocols.fingerprint(task), fusion_fits.hash_of(data.traits)), config))
    shelf = fusion_fits.Shelf(options.folder, {NAME: rests}, {})
    subset = ("events", TRAITS, *data.content)

    def fit(question: Question, condition: str, seed: int, which: str) -> Fit:
        job = Job(NAME, subset, "gate", condition, seed, which)
        # A kept fit of validation is that of the whole past: without the cold films it is another one.
        kept = shelf.read(job) if which == "test" else None
        return kept or fusion_fits.fitted(job, behaviour, config, question, question.asked, runtime)

    weights, runs, spent = [], [], []
    for seed in range(options.seeds):
        for which, whole in (("validation", earlier(task)), ("test", task.test)):
            held = fusion_fits.cold_items(whole.fit)
            users = whole.asked
            cold = fusion_fits.poorer(whole, held, COLD_ITEMS)
            there = fusion_fits.poorer(whole, held, AS_IT_IS)
            found = fit(cold, COLD_ITEMS, seed, which)
            expected = newcomers.foretold(cold.fit, facts(table, cold.fit), runtime=Runtime(seed=seed, threads=1))
            target = cold.slices["cold"][0][users]
            if which == "validation":
                weights.append(newcomers.found_weight(found.scores, expected, held, target))
                print("weight", weights[-1], flush=True)
            told = {
                f"{NAME} and foretold": newcomers.lifted(found.scores, expected, held, weights[-1]),
                NAME: found.scores,
                "foretold": np.tile(expected, (len(users), 1)),
            }
            if which == "test":
                kept = fit(there, AS_IT_IS, seed, which)
                told[WITH] = kept.scores
                spent.append((found.cpu_s, kept.cpu_s))
            some = [one for name, scores in told.items() for one in judged(name, scores, cold, users)]
            print(
                which, {m.model: round(float(np.mean(m.values)), 4) for m in some if m.metric == "ndcg@10"}, flush=True
            )
            run = some
        runs.append(run)
    several = mean_of_seeds(runs)
    document = bench.document(
        evaluate.table(
            several, dataset="MovieLens-100k", modalities=subset, seeds=options.seeds,
            cpu_s=float(np.mean([one for one, _ in spent])),
        ),
        commit=ground.commit(),
    )  # fmt: skip
    ndcg = {m.model: float(np.mean(m.values)) for m in several if m.metric == "ndcg@10"}
    gap = evaluate.compare([m for m in several if m.metric == "ndcg@10"], against=NAME)
    document["differences"] = gap.drop("protocol", "slice").to_dicts()
    (one,) = gap.filter(pl.col("model") == f"{NAME} and foretold").iter_rows(named=True)
    shares = {name: ndcg[name] / ndcg[WITH] for name in (NAME, f"{NAME} and foretold")}
    document["sentence"] = (
        f"Without their events new films keep {shares[NAME]:.0%} of the NDCG@10 they reach with them; with what facts "
        f"foretell beside, {shares[f'{NAME} and foretold']:.0%}: {one['mean']:+.3f} "
        f"({one['low']:+.3f} to {one['high']:+.3f}). Weight {', '.join(map(str, weights))}."
    )
    document["weights"] = weights
    print(bench.save(document, HERE / "cold-ml-100k.json"), document["sentence"])


if __name__ == "__main__":
    main()
