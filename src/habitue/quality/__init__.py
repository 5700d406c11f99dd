"""What is wrong in the tables, how much money it touches, and the table without it."""

from habitue.quality.clean import Config, clean
from habitue.quality.findings import inspect
from habitue.quality.products import products
from habitue.quality.scores import scores

__all__ = ["Config", "clean", "inspect", "products", "scores"]
