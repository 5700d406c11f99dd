"""A stage imports core, protect and the stages to its left; protect imports core; core imports nothing above it."""

import ast
from pathlib import Path

import habitue

SRC = Path(habitue.__file__).parent
RANK = {name: rank for rank, name in enumerate(("core", "protect", *habitue.STAGES))}
ABOVE = len(
    RANK
)  # pipeline, tables, look_back, plan, shop, cli, dashboard: may import everything, and nothing below may import them
NAMES_OF_THE_PACKAGE = {"STAGES", "__version__"}


def imported(tree: ast.Module) -> set[str]:
    """The parts of habitue (core, quality, shop, ...) that a file imports anywhere, in functions too."""
    dotted = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "habitue":
            dotted |= {f"habitue.{alias.name}" for alias in node.names if alias.name not in NAMES_OF_THE_PACKAGE}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            dotted.add(node.module or "")
    return {name.split(".")[1] for name in dotted if name.startswith("habitue.")}


def violations(src: Path) -> list[str]:
    found = []
    for file in sorted(src.rglob("*.py")):
        part = file.relative_to(src).parts[0]
        for other in imported(ast.parse(file.read_text(encoding="utf-8"))):
            if part in RANK and RANK.get(other, ABOVE) > RANK[part]:
                found.append(f"{file.relative_to(src)} imports {other}")
    return found


def test_no_stage_imports_one_to_its_right():
    assert violations(SRC) == []


def test_a_planted_violation_is_found(tmp_path):
    planted = {
        "core/a.py": "from habitue.protect import identities",
        "protect/b.py": "def late():\n    import habitue.collect.mapping",
        "quality/c.py": "from habitue import evaluate",
        "encode/d.py": "from habitue.shop import Shop",
        "evaluate/fine.py": "from habitue.core import errors\nfrom habitue.collect import Mapping\nimport polars",
        "pipeline.py": "from habitue import serve",
    }
    for name, text in planted.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert violations(tmp_path) == [
        "core/a.py imports protect",
        "encode/d.py imports shop",
        "protect/b.py imports collect",
        "quality/c.py imports evaluate",
    ]
