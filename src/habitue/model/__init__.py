"""Everything that is learnt: a model is one file, and `past` says what it is given and must answer."""

from habitue.model.artifact import Artifact, load, save
from habitue.model.past import Past, histories

__all__ = ["Artifact", "Past", "histories", "load", "save"]
