"""Files as they come: what kind a file is, told by its content, and its rows as blocks of raw columns."""

from habitue.collect.sources.blocks import Block, Limits
from habitue.collect.sources.files import Form, Source, opened, require

__all__ = ["Block", "Form", "Limits", "Source", "opened", "require"]
