"""The architecture, read from the imports.

Each room of the package may import certain others, and certain calls belong in one module alone.
bench is a room above all others, beside the command line; in a checkout its files lie elsewhere.
"""
import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fastgan
import fastgan.bench

ROOT = Path(fastgan.__file__).parent
BENCH = Path(fastgan.bench.__path__[0])
MOST_MODULES, MOST_OF_BENCH = 12, 24  # of a folder, its __init__ among them

# A room, a folder or a file on top, and the rooms that it imports; they stand above it. All may
# import `errors`.
BASE = ("errors", "files", "device", "config")
OPS = ("ops", "ops.dispatch", "ops.deconv")
DATA = ("data", "data.sources", "data.packing", "data.feeds", "data.tensors", "data.dali")
METHOD = ("engine", "nn", "augment", "gan", "models")
ROOMS = {
    "errors": (),
    "kernels": (),
    "files": (),
    "processes": (),
    "progress": (),
    "device": (),
    "config": (),
    "ops.dispatch": ("files", "kernels", "processes", "device"),
    "ops": ("kernels", "ops.dispatch"),
    "ops.deconv": ("kernels", "ops.dispatch", "ops"),
    "engine.passes": ("ops.dispatch", "ops"),
    "engine": ("ops.dispatch", "engine.passes"),
    "nn": OPS,
    "augment": ("config",),
    "models": ("config", *OPS, "nn"),
    "data": ("progress",),
    "data.sources": ("files", "progress", "data"),
    "data.packing": ("processes", "progress", "data", "data.sources"),
    "data.feeds": ("data",),
    "data.tensors": ("progress", "data", "data.sources", "data.feeds"),
    "data.dali": ("progress", *DATA[:-1]),
    "metrics.networks": ("files", "progress", "data"),
    "metrics": ("progress", "data", "metrics.networks"),
    "plots": ("files",),
    "gan": ("device", "config", *OPS, "engine", "nn", "augment"),  # no models: a step takes any networks
    "run": (*BASE, *DATA, *METHOD, "metrics", "plots"),
    "info": (*BASE, "ops.dispatch"),
    "evaluation": (*BASE, "data", "metrics", "plots", "run"),
    "training": (*BASE, "progress", "ops.dispatch", "data", "data.tensors", *METHOD, "run"),
    "trainer": (*BASE, "progress", "ops.dispatch", "data", "data.tensors", *METHOD, "plots", "run", "training"),
    "bench": (*BASE, "processes", "progress", "kernels", *OPS, *DATA, *METHOD, "metrics", "plots", "run", "info",
              "evaluation", "trainer"),
    "cli": (*BASE, "processes", *DATA, "run", "info", "evaluation", "trainer", "bench"),
    "__main__": ("cli",),
    "__init__": (),
}

BENCH_FILES = sorted(BENCH.rglob("*.py"))
FILES = sorted(path for path in ROOT.rglob("*.py") if path not in BENCH_FILES and path != ROOT / "bench.py")
FOLDERS = sorted({path.parent for path in FILES})


def name_of(path: Path) -> str:
    """Return `gan.step` for gan/step.py, `gan` for gan/__init__.py, `bench.gpu` for bench/gpu/."""
    folder = BENCH.parent if path in BENCH_FILES else ROOT
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in [*FILES, *BENCH_FILES]}


def room_of(name: str) -> str:
    """Return the room of a module: the longest name of a room that begins the module's own name."""
    while name not in ROOMS and "." in name:
        name = name.rpartition(".")[0]
    return name


def imported_names(path: Path) -> Iterator[str]:
    """Return the full names that a file imports anywhere, inside functions too.

    They are names of modules, or of objects in them.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}, line {node.lineno}: import by the full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, without `fastgan.`.

    `fastgan.__version__` belongs to none.
    """
    names = {name.removeprefix("fastgan.") for name in imported_names(path) if name.startswith("fastgan.")}
    return {name if name in MODULES else name.rpartition(".")[0] for name in names} & MODULES.keys()


def dotted_names(path: Path) -> set[str]:
    """Return every attribute access of a file as written, `torch.cuda.graph`.

    A start that is not a plain name becomes `?`.
    """
    return {
        _dotted(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


every_file = pytest.mark.parametrize("path", FILES, ids=name_of)


def test_the_rooms_stand_above_those_that_import_them():
    names = list(ROOMS)
    assert all(names.index(other) < names.index(room) for room in names for other in ROOMS[room])


@pytest.mark.parametrize("path", [*FILES, *BENCH_FILES], ids=name_of)
def test_a_module_imports_the_rooms_that_its_own_may_import(path):
    room = room_of(name_of(path))
    assert {room_of(name) for name in imported_modules(path)} <= {room, "errors", *ROOMS[room]}


def test_no_modules_import_each_other_in_a_circle():
    # A module that a package's __init__ loads on demand does not count as an import.
    imports = {name: imported_modules(path) - {name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_a_folder_can_be_read_like_a_table_of_contents(folder):
    assert len(list(folder.glob("*.py"))) <= MOST_MODULES


@pytest.mark.parametrize("path", [*FILES, *BENCH_FILES], ids=name_of)
def test_nothing_is_imported_by_its_place_in_the_checkout_and_no_test_at_all(path):
    # By such a name a module would be loaded once more.
    assert not {name.split(".")[0] for name in imported_names(path)} & {"bench", "tests", "kernels"}


def test_two_modules_of_bench_have_two_names_and_its_folders_are_of_a_size():
    names = [path.stem for path in BENCH_FILES if path.stem != "__init__"]
    assert sorted(names) == sorted(set(names))
    for folder in {path.parent for path in BENCH_FILES}:
        assert len(list(folder.glob("*.py"))) <= MOST_OF_BENCH
    assert len(list((BENCH / "gpu").glob("*.py"))) <= 18


@every_file
def test_compiling_and_recording_have_one_home_each(path):
    if name_of(path) != "engine.compiled":
        assert "torch.compile" not in dotted_names(path)
    if name_of(path) != "device.cuda_graphs":
        assert not dotted_names(path) & {
            "torch.cuda.graph",
            "torch.cuda.CUDAGraph",
            "torch.cuda.make_graphed_callables",
        }


@every_file
def test_gradients_come_from_autograd_grad_and_requires_grad_stays_as_it_is(path):
    # backward() and switching requires_grad leave compiled steps silently stale.
    last_names = {name.rpartition(".")[2] for name in dotted_names(path)}
    assert not last_names & {"backward", "requires_grad_"}
