"""Habitue: everything a shop's customers do, say and show, turned into one customer model.

`STAGES` is the order of the pipeline, written once: the command line's help, the docs, the layer test and the
report read it. Importing this module loads neither polars nor torch; names below arrive when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from habitue.shop import Shop, demo, init, open

__all__ = ["STAGES", "Shop", "__version__", "demo", "init", "open"]

__version__ = "0.1.0"

STAGES = ("collect", "quality", "prepare", "encode", "model", "evaluate", "apply", "explain", "serve")


def __getattr__(name: str) -> object:
    if name in ("Shop", "demo", "init", "open"):
        from habitue import shop

        return getattr(shop, name)
    raise AttributeError(f"module 'habitue' has no attribute {name!r}")
