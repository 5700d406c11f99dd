"""From words, pictures and columns to vectors; one file is one modality."""

from habitue.encode.modality import run
from habitue.encode.vectors import Encoder, Vectors

__all__ = ["Encoder", "Vectors", "run"]
