"""Which tests are a core module's own: the tidiness check and the coverage run read this map.

`loomproxy/core/pool.py` is tested by `tests/core/test_pool.py`, and by `tests/core/test_pool_*.py`
where that became too long. A module inside a package is tested in the directory of that package in
the same way, where there may also be tests of the package as a whole. A package whose modules only
make sense together may have tests named after the package, which count for all of them.
"""

import ast
from pathlib import Path

CORE = Path("loomproxy/core")
CORE_TESTS = Path("tests/core")


def core_modules(root: Path) -> list[Path]:
    """Return the core modules that have anything to test, relative to the root."""
    return sorted(
        path.relative_to(root) for path in (root / CORE).rglob("*.py") if _has_behaviour(path)
    )


def own_tests(root: Path, module: Path) -> list[Path]:
    """Return the test files of one core module, relative to the root; empty when it has none."""
    inside = module.relative_to(CORE).with_suffix("")
    named = [] if inside.name == "__init__" else _named(root, inside.parent, inside.name)
    package = inside.parent
    if not named and package.name:
        named = _named(root, package.parent, package.name)
        named += sorted((root / CORE_TESTS / package).rglob("test_*.py"))
    return [path.relative_to(root) for path in named]


def orphans(root: Path) -> list[Path]:
    """Return the test files of core that are no module's and no package's own."""
    known = {test for module in core_modules(root) for test in own_tests(root, module)}
    found = {path.relative_to(root) for path in (root / CORE_TESTS).rglob("test_*.py")}
    return sorted(test for test in found - known if not _is_of_package(root, test))


def _is_of_package(root: Path, test: Path) -> bool:
    """Tell whether a test lies in the directory of a package of core and speaks of it."""
    package = CORE / test.parent.relative_to(CORE_TESTS)
    name = ".".join(package.parts)
    return package != CORE and (root / package).is_dir() and name in (root / test).read_text()


def _named(root: Path, directory: Path, name: str) -> list[Path]:
    """Return the test files named after something, beside where its own tests would be."""
    place = root / CORE_TESTS / directory
    return sorted([*place.glob(f"test_{name}.py"), *place.glob(f"test_{name}_*.py")])


def _has_behaviour(path: Path) -> bool:
    """Tell whether a module does more than import, describe and export."""
    passive = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    return not all(isinstance(node, passive) for node in ast.parse(path.read_text()).body)
