"""From events to what models read: sets in time, what was known at a moment, what happened after it."""

from habitue.prepare.catalogue import attributes, catalogue, facts
from habitue.prepare.features import features
from habitue.prepare.labels import labels
from habitue.prepare.split import split
from habitue.prepare.timeline import timeline

__all__ = ["attributes", "catalogue", "facts", "features", "labels", "split", "timeline"]
