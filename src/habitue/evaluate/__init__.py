"""Honest tables: what each model foretold against what happened, with paired intervals and one sentence on who won."""

from habitue.evaluate.measured import table
from habitue.evaluate.paired import compare
from habitue.evaluate.ranking import basket
from habitue.evaluate.tasks import churn, value

__all__ = ["basket", "churn", "compare", "table", "value"]
