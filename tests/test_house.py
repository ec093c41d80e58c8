"""The rules of the house that a program can check: who may import whom, sizes, names, and what must not be written."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "eplb"
MODULES = sorted(SOURCE.rglob("*.py"))

# Arrows point down this list only: a part may import what stands on its own line or below.
FLOORS = (
    {"cli", "__main__"},
    {"report"},
    {"advising"},
    {"replay", "engines", "online", "__init__"},
    {"planning", "forecasting", "migration", "dispatch", "deepseek", "reading", "baseline", "evaluation"},
    {
        *("topology", "placement", "bounds", "certificate"),
        *("trace", "trace_store", "trace_folder", "zarr_arrays", "token_stream"),
    },
    {"errors", "arrays", "files"},
)
BESIDE_PLANNING = next(floor for floor, parts in enumerate(FLOORS) if "planning" in parts)
MAY_IMPORT_ERRORS = {"kernels.threads", "kernels.compiling"}  # the two that meet the user's environment
STANDS_BESIDE_PLANNING = {"deepseek", "reading"}
LIMIT_LINES = 500
SHAPELESS_NAMES = {"utils.py", "helpers.py"}

# Written in two parts, so that this file passes its own check.
FORBIDDEN = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME)\b|(?<![\w.~/-])/(?:wo" + r"rk|ro" + r"ot)(?![\w.-])")


# ---- the checkers


def imports_of(source, package):
    """Yield (name, line, whether at module level) of everything that `source`, a module in `package`, imports."""
    tree = ast.parse(source)
    later = {id(node) for block in ast.walk(tree) if _is_later(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            names = [f"{name}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, node.lineno, id(node) not in later


def _is_later(node):
    """Return whether what stands in `node` runs later than the import of its module, or never."""
    types_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return types_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def floor_of(part):
    """Return the floor of a part of the package, 0 at the top; a file that no floor lists stands beside planning."""
    return next((floor for floor, parts in enumerate(FLOORS) if part in parts), BESIDE_PLANNING)


def complaints(module, source):
    """Yield what `source`, the module called `module` without "eplb.", imports against the rules."""
    part = module.split(".")[0]
    package = f"eplb.{module}".rpartition(".")[0]
    for name, line, at_once in imports_of(source, package):
        top, *rest = name.split(".")
        rule = _rule_inside(module, part, rest, at_once) if top == "eplb" else _rule_outside(module, part, top, at_once)
        if rule:
            yield f"{module}:{line} imports {name}: {rule}"


def _rule_outside(module, part, top, at_once):
    if top == "numba" and at_once and part != "kernels":
        return "only kernels import numba at module level"
    if top in ("typer", "rich") and part != "cli":
        return "only cli imports typer and rich"
    if top in ("torch", "zarr", "plotly", "pyarrow", "ray") and at_once:
        return f"{top} is imported where it is needed, never at module level"
    numbas_own = top == "llvmlite" and module == "kernels.compiling"
    if part == "kernels" and top not in {"numpy", "numba", *sys.stdlib_module_names} and not numbas_own:
        return "kernels import numpy and numba alone"
    return None


def _rule_inside(module, part, rest, at_once):
    target = rest[0] if rest else "__init__"
    if part == "kernels":
        errors_allowed = target == "errors" and module in MAY_IMPORT_ERRORS
        notice_allowed = target == "compiling_notice" and module == "kernels.compiling"
        return None if target == "kernels" or errors_allowed or notice_allowed else "kernels import other kernels alone"
    if target == "kernels":
        return "kernels are imported where they are first needed" if at_once else None
    if target == "engines" and part not in ("engines", "cli"):
        return "only cli imports engines"
    if target == "planning" and part in STANDS_BESIDE_PLANNING and at_once:
        return f"{part} stands beside planning, and imports it where it is needed"
    # `from eplb import x` names either a part or something that the package shows, which only those above may ask for.
    is_part = (SOURCE / target).is_dir() or (SOURCE / f"{target}.py").is_file() or any(target in f for f in FLOORS)
    return None if floor_of(part) <= floor_of(target if is_part else "__init__") else "this arrow points up"


def module_name(path):
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def own_files():
    """Return the files of the repository: those that git tracks, or all that are not hidden or built."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        built = re.compile(r"(^|/)(\.|__pycache__|build|dist|[^/]*\.egg-info)")
        names = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        return [ROOT / name for name in names if not built.search(name.as_posix())]


def text_of(path):
    """Return the text of `path`, or nothing if it is binary."""
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode("utf-8", errors="replace")


# ---- the house as it stands


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_arrows_point_down(path):
    """No module imports what stands above it, and none imports more than its floor may."""
    assert list(complaints(module_name(path), path.read_text(encoding="utf-8"))) == []


def test_the_house_is_not_empty():
    """The checks run over the whole package."""
    names = {module_name(path) for path in MODULES}
    assert {"topology", "planning.plan", "kernels.known.packing", "cli.plan", "deepseek", "__init__"} <= names


def test_files_are_short():
    """No file of the package has more lines than a reader keeps in mind."""
    assert {module_name(p): n for p in MODULES if (n := len(p.read_text().splitlines())) > LIMIT_LINES} == {}


def test_files_are_named_by_what_they_do():
    """No file is a drawer for everything."""
    assert [path for path in MODULES if path.name in SHAPELESS_NAMES] == []


def test_nothing_is_left_undone_or_tied_to_a_machine():
    """No file holds a note to finish it later, or a path of the machine that it was written on."""
    found = {
        f"{path.relative_to(ROOT)}:{number}": line.strip()
        for path in own_files()
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if FORBIDDEN.search(line)
    }
    assert found == {}


# ---- the checkers can fail


@pytest.mark.parametrize(
    ("module", "source", "rule"),
    [
        ("topology", "from eplb.planning import plan", "this arrow points up"),
        ("topology", "def f():\n    from eplb.planning.plan import plan", "this arrow points up"),
        ("topology", "from eplb import plan", "this arrow points up"),
        ("topology", "import eplb", "this arrow points up"),
        ("errors", "from eplb.arrays import frozen\nfrom eplb.topology import Topology", "this arrow points up"),
        ("trace", "from . import cli", "this arrow points up"),
        ("trace", "from .reading import read_loads", "this arrow points up"),
        ("planning.plan", "from ..replay import replay", "this arrow points up"),
        ("planning.plan", "from eplb.online.controller import Controller", "this arrow points up"),
        ("planning.plan", "if TYPE_CHECKING:\n    from eplb.cli import app", "this arrow points up"),
        ("replay.step", "import eplb.cli.app", "this arrow points up"),
        ("online.controller", "from eplb.engines.vllm import collect", "only cli imports engines"),
        ("dispatch.split", "from eplb.engines import vllm", "only cli imports engines"),
        ("deepseek", "from eplb.planning import plan", "stands beside planning"),
        ("reading", "import eplb.planning.plan", "stands beside planning"),
        ("planning.plan", "from eplb.kernels.known.packing import pack", "where they are first needed"),
        ("kernels.known.packing", "from eplb.topology import Topology", "kernels import other kernels alone"),
        ("kernels.known.packing", "from eplb.errors import OptionError", "kernels import other kernels alone"),
        ("kernels.known.packing", "from scipy.optimize import milp", "kernels import numpy and numba alone"),
        ("kernels.known.packing", "import llvmlite.binding", "kernels import numpy and numba alone"),
        ("kernels.known.packing", "def f():\n    import torch", "kernels import numpy and numba alone"),
        ("planning.plan", "import numba", "only kernels import numba at module level"),
        (
            "planning.plan",
            "try:\n    from numba import njit\nexcept ImportError:\n    pass",
            "only kernels import numba",
        ),
        ("replay.step", "def f():\n    import rich.table", "only cli imports typer and rich"),
        ("dispatch.operators", "import torch.nn", "never at module level"),
        ("trace_store", "import zarr", "zarr is imported where it is needed, never at module level"),
        ("reading", "from zarr.storage import LocalStore", "zarr is imported where it is needed"),
    ],
)
def test_an_arrow_that_points_up_is_found(module, source, rule):
    """Each rule refuses the import it is there for."""
    assert [complaint for complaint in complaints(module, source) if rule in complaint]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cli.plan", "import typer\nimport eplb\nfrom eplb.engines import vllm\nfrom eplb.replay import replay"),
        ("replay.step", "import eplb\nfrom eplb.planning import plan\nfrom . import policy"),
        (
            "planning.plan",
            "from eplb.topology import Topology\ndef f():\n    from eplb.kernels.known.packing import pack",
        ),
        (
            "deepseek",
            "from eplb.topology import Topology\ndef f():\n    from eplb.planning import plan\n    import torch",
        ),
        ("kernels.known.packing", "import math\nimport numba\nfrom eplb.kernels.compiling import part"),
        ("kernels.threads", "from eplb.errors import OptionError"),
        ("kernels.compiling", "import llvmlite.binding"),
        ("dispatch.operators", "if TYPE_CHECKING:\n    import torch"),
        ("trace", "from eplb.placement import Placement\nfrom eplb.files import read_npz"),
        ("trace_store", "from eplb.trace import LoadTrace\ndef f():\n    import zarr"),
    ],
)
def test_arrows_that_point_down_pass(module, source):
    """The rules refuse nothing that the map allows."""
    assert list(complaints(module, source)) == []


@pytest.mark.parametrize(
    "line", ["# TO" + "DO: later", "x = 1  # FIX" + "ME", 'open("/wo' + 'rk/a.txt")', "cd /ro" + "ot", "a:/wo" + "rk/b"]
)
def test_a_forbidden_line_is_found(line):
    """The pattern knows notes and paths, alone or in other text."""
    assert FORBIDDEN.search(line)


@pytest.mark.parametrize(
    "line", ["frame/work", "/workers", "./work/a", "~/work", "to" + "do", "https://a.b/root", "MASTODON"]
)
def test_an_innocent_line_passes(line):
    """Words and paths that only look like it are free."""
    assert not FORBIDDEN.search(line)


def test_every_file_of_the_repository_is_looked_at():
    """The list of files holds this package and its tests."""
    names = {path.relative_to(ROOT).as_posix() for path in own_files()}
    assert {"pyproject.toml", "src/eplb/__init__.py", "src/eplb/topology.py"} <= names
