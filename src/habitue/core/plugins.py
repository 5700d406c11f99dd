"""A modality, a model or an application is a file; this loads it and says what it lacks."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
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
        places = [Path(place) for place in package.__path__]
        files = [name for name in files if set(contract) <= _defined(places, name)]
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


def _defined(places: list[Path], name: str) -> set[str]:
    """Return what a file or a folder of that name defines at its top, without importing it: that may take an extra."""
    found: set[str] = set()
    for path in (inner for place in places for inner in (place / f"{name}.py", place / name / "__init__.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                found |= {one.asname or one.name for one in node.names}
            else:
                names = (one for one in ast.walk(node) if isinstance(one, ast.Name))
                found |= {one.id for one in names if isinstance(one.ctx, ast.Store)}
    return found
