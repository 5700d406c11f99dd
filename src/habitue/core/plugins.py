"""A modality, a model or an application is a file; this loads it and says what it lacks."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from habitue.core.errors import PluginError, did_you_mean


def load(folder: str, name: str, *, contract: tuple[str, ...]) -> ModuleType:
    """Import `habitue.<folder>.<name>`, or `name` itself when it is dotted (a plug-in of your own).

    `contract` lists the names the module must define. Raises PluginError when the file or one of them is missing.
    """
    path = name if "." in name else f"habitue.{folder}.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not path.startswith(error.name):
            raise
        package = importlib.import_module(f"habitue.{folder}")
        files = [m.name for m in pkgutil.iter_modules(package.__path__)]
        raise PluginError(
            f"{folder} '{name}'",
            found=f"there is no file '{path.replace('.', '/')}.py'",
            consequence="Nothing can be loaded by that name",
            remedy=did_you_mean(name, files),
        ) from error
    missing = [attribute for attribute in contract if not hasattr(module, attribute)]
    if missing:
        raise PluginError(
            f"{folder} '{name}'",
            found=f"{path} does not define {', '.join(missing)}",
            consequence=f"Every file of {folder}/ must define {', '.join(contract)}",
            remedy=f"Add {', '.join(missing)} to {path}, or name another file",
        )
    return module
