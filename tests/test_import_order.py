"""Any module can be the first that a process imports: what a command, a worker or one test file begins with is no accident."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parent.parent
APPS = ("accounts", "ledger", "datanets", "attribution", "marketplace", "modelserver", "demo", "devstack")


def test_modules_that_import_each_other_take_no_name_from_each_other():
    # A name cannot be taken from a module that has not run to its end; `from . import module` can wait until it is used.
    modules = {
        _name(path): path for app in APPS for path in ROOT.glob(f"{app}/**/*.py") if "migrations" not in path.parts
    }
    imports = {edge for module, path in modules.items() for edge in _imports(module, path, modules)}
    names = sorted(modules)
    start, end = ([names.index(edge[side]) for edge in imports] for side in (0, 1))
    graph = coo_matrix((np.ones(len(imports)), (start, end)), shape=(len(names), len(names)))
    _count, ring = connected_components(graph, connection="strong")

    taken = [
        f"{module} from {other}"
        for module, other, takes_name in sorted(imports)
        if takes_name and ring[names.index(module)] == ring[names.index(other)]
    ]

    assert len(modules) > 300 and len(imports) > 1_000
    assert taken == []


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(module: str, path: Path, modules: dict[str, Path]) -> Iterator[tuple[str, str, bool]]:
    """Of what a module imports of ours when it is imported itself: (module, other, whether it takes a name from it)."""
    for node in _at_import(ast.parse(path.read_text()).body):
        if isinstance(node, ast.Import):
            yield from ((module, alias.name, False) for alias in node.names if alias.name in modules)
            continue
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        above = package[: len(package) - node.level + 1] if node.level else []
        other = ".".join(filter(None, [*above, node.module]))
        for alias in node.names:
            if f"{other}.{alias.name}" in modules:
                yield module, f"{other}.{alias.name}", False
            elif other in modules and other != module:
                yield module, other, True


def _at_import(statements: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in statements:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If):
            for_types_only = "TYPE_CHECKING" in ast.dump(node.test)
            yield from _at_import([*([] if for_types_only else node.body), *node.orelse])
        elif isinstance(node, ast.Try):
            yield from _at_import([*node.body, *node.orelse, *node.finalbody])
