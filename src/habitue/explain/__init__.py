"""Why this answer: reasons that are kept only because taking them away changes it, and a card for each model."""

from habitue.explain.cards import card, to_markdown
from habitue.explain.deletion import reasons
from habitue.explain.replacement import features

__all__ = ["card", "features", "reasons", "to_markdown"]
