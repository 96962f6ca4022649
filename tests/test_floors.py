"""The package's structure: imports point down the floors only, files stay small, and nothing is ever unpickled."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "probseq"

FLOORS = {
    "errors": 0,
    "calendar": 0,
    "context": 0,
    "design": 0,
    "distinct": 0,
    "future": 0,
    "invariants": 0,
    "kmers": 0,
    "pairs": 0,
    "places": 0,
    "rows": 0,
    "sequences": 0,
    "io": 0,
    "cutting": 0,
    "datasets": 0,
    "kernels": 0,
    "families": 1,
    "chains": 1,
    "recurrent": 1,
    "models": 2,
    "inference": 3,
    "diagnostics": 4,
    "genome": 4,
    "plots": 5,
    "cli": 6,
    "report": 6,
    "__main__": 6,
}
MOST_LINES = 400
MOST_FUNCTION_LINES = 60

FILES = sorted(path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def part_of(path: Path) -> str:
    """The part of the package a file belongs to: its folder, or its own name at the top."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_parts(tree: ast.AST, path: Path) -> Iterator[tuple[str, int]]:
    """Every part of probseq that a file imports, wherever in it the import stands, with its line."""
    inside = ("probseq", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = inside[: len(inside) - node.level] if node.level else ()
            stem = [*start, *(node.module.split(".") if node.module else [])]
            modules = [[*stem, alias.name] for alias in node.names] if stem == ["probseq"] else [stem]
        else:
            continue
        for module in modules:
            if module[0] == "probseq" and len(module) > 1 and module[1] != "__version__":
                yield module[1], node.lineno


def outside_imports(tree: ast.AST) -> set[str]:
    """The top-level modules that a file imports, wherever in it the import stands."""
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {module.split(".")[0] for module in found}


def upward_imports(source: str, path: Path) -> list[str]:
    floor = FLOORS[part_of(path)]
    return [
        f"{name_of(path)}:{line} imports probseq.{part} (floor {FLOORS.get(part, 'unknown')}) from floor {floor}"
        for part, line in imported_parts(ast.parse(source), path)
        if FLOORS.get(part, 99) > floor
    ]


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name != "__init__.py" or path.parent != PACKAGE], ids=name_of
)
def test_imports_point_down(path: Path) -> None:
    assert part_of(path) in FLOORS, f"give {name_of(path)} a floor"
    assert upward_imports(path.read_text(), path) == []


@pytest.mark.parametrize(
    "source",
    [
        "from probseq.inference import em",
        "import probseq.inference.em",
        "from probseq import inference",
        "def late():\n    from probseq.models.hmm import HMM",
        "from ..models import HMM",
        "from probseq import HMM",
    ],
)
def test_an_upward_import_is_found(source: str) -> None:
    assert len(upward_imports(source, PACKAGE / "families" / "gamma.py")) == 1


@pytest.mark.parametrize(
    "source", ["from probseq.errors import DataError", "from . import scale", "from probseq import __version__"]
)
def test_a_downward_import_is_allowed(source: str) -> None:
    assert upward_imports(source, PACKAGE / "families" / "gamma.py") == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    source = path.read_text()
    assert source.count("\n") <= MOST_LINES
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_unpickled(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not outside_imports(tree) & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & {"torch.load", "torch.save", "np.load", "numpy.load", "joblib.load", "pd.read_pickle"}


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^A-Za-z0-9_-]", line)[0].lower() for line in project["dependencies"]}
    modules = {name.removesuffix("-ppl").removeprefix("pytorch-").replace("-", "_") for name in declared}
    imported = set().union(*(outside_imports(ast.parse(path.read_text())) for path in FILES))
    assert sorted(imported - modules - set(sys.stdlib_module_names) - {"probseq"}) == []


def test_no_vague_module_names() -> None:
    vague = {"utils", "util", "base", "helpers", "helper", "manager", "misc", "common", "config"}
    assert [name_of(path) for path in FILES if path.stem in vague] == []
