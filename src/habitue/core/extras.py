"""The one door for optional packages."""

from __future__ import annotations

import importlib
from types import ModuleType

from habitue.core.errors import MissingExtraError


def need(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say how to install it.

    `extra` is the name in `pyproject.toml`; `purpose` is the dotted place that asks. Raises MissingExtraError.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise  # the package is here, but broken: its own message says more than ours
        raise MissingExtraError(
            purpose,
            found=f"the package '{module}' is not installed",
            consequence="This step cannot run without it",
            remedy=f"Install it with: pip install 'habitue[{extra}]'",
        ) from error
