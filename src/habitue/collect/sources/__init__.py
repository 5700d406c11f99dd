"""Files as they come: what kind a file is, told by its content, and its mapped columns as a raw frame."""

from habitue.collect.sources.files import read, require

__all__ = ["read", "require"]
