"""From words (and later pictures, sound and numbers) to vectors; one file is one modality."""

from habitue.encode.vectors import Vectors

__all__ = ["Vectors"]
