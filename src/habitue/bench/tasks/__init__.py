"""One labelled table, every applicable model, the same folds: who wins, by how much, at what cost."""

from habitue.bench.tasks.reading import Columns
from habitue.bench.tasks.running import Outcome, Plan, run

__all__ = ["Columns", "Outcome", "Plan", "run"]
