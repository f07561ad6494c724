"""The architecture, read from the imports: a module imports strictly lower floors only, and a few calls have one home."""
import ast
import sys
from pathlib import Path

import pytest

import fastgan

ROOT = Path(fastgan.__file__).parent

SERVICES = {"data", "metrics", "sample", "plots", "export", "checkpoint", "stats", "info", "progress"}
FOUNDATIONS = [{"__init__", "errors", "kernels"}, {"files", "config"}, {"presets", "validation"}, {"ops", "precision", "cadence", "inputs"}]
METHOD = [
    {"transforms", "zeros", "layers"},
    {"norms", "losses", "penalties", "augment", "optim", "ema", "schedules", "parity", "totals"}
    | {"diff_augment", "ada", "ada_controller"}
    | {"counters", "compiling", "capture", "cuda_graphs", "pace", "readout", "host_memory"},
    {"models", "augmentation"},
    {"networks"},
    {"judging", "wiring"},
    {"objectives"},
    {"step", "engine", "adapt"},
    {"phases"},
]
HARNESS = [
    {"run_folder", "feeds", "training_state", "assembly", "memory", "gallery", "stopwatch", "signs"},
    {"snapshots", "measuring"},
    {"recorder", "evaluation"},
    {"trainer"},
    {"cli"},
    {"__main__"},
]

# A folder is one unit: its files may import each other.
FLOORS = [*FOUNDATIONS, *METHOD, SERVICES, *HARNESS]
FLOOR = {unit: number for number, units in enumerate(FLOORS) for unit in units}
METRICS_READ_DATA = {"metrics": {"data"}}  # the one exception

FILES = sorted(ROOT.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The floor's name of a file: `data` for data/folder.py, `step` for step.py."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported_modules(path: Path) -> set[str]:
    """Full names of the modules imported anywhere in a file, inside functions too."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}, line {node.lineno}: import by the full name"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "fastgan" else {node.module}
    return modules


def imported_units(path: Path) -> set[str]:
    """The units of fastgan, other than its own, that a file imports. A name of the package itself (fastgan.__version__) is none."""
    names = {module.split(".")[1] for module in imported_modules(path) if module.startswith("fastgan.")}
    return {name for name in names if name in FLOOR} - {unit_of(path)}


def dotted_names(path: Path) -> set[str]:
    """Every attribute access of a file as written, `torch.cuda.graph`; what is not a plain name in front becomes `?`."""
    return {_dotted(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)}


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def file_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_file = pytest.mark.parametrize("path", FILES, ids=file_id)


@every_file
def test_every_module_has_a_floor(path):
    assert unit_of(path) in FLOOR


@every_file
def test_a_module_imports_strictly_lower_floors(path):
    not_lower = {unit for unit in imported_units(path) if FLOOR[unit] >= FLOOR[unit_of(path)]}
    assert not_lower <= METRICS_READ_DATA.get(unit_of(path), set())


@pytest.mark.parametrize("path", [path for path in FILES if unit_of(path) in SERVICES], ids=file_id)
def test_a_service_knows_nothing_of_the_method(path):
    assert imported_units(path) <= set().union(*FOUNDATIONS) | METRICS_READ_DATA.get(unit_of(path), set())


def test_the_engine_imports_torch_and_the_choice_of_operators_alone():
    own = {"engine", "parity", "capture", "cuda_graphs", "compiling", "zeros", "cadence", "counters"}
    modules = set().union(*(imported_modules(ROOT / f"{name}.py") for name in own))
    packages = {module.split(".")[0] for module in modules - {f"fastgan.{name}" for name in (*own, "ops", "errors")}}
    assert packages - sys.stdlib_module_names == {"torch"}


@every_file
def test_the_package_imports_neither_bench_nor_tests(path):
    assert not {module.split(".")[0] for module in imported_modules(path)} & {"bench", "tests", "kernels"}


@every_file
def test_compiling_and_recording_have_one_home_each(path):
    if unit_of(path) != "compiling":
        assert "torch.compile" not in dotted_names(path)
    if unit_of(path) != "cuda_graphs":
        assert not dotted_names(path) & {"torch.cuda.graph", "torch.cuda.CUDAGraph", "torch.cuda.make_graphed_callables"}


@every_file
def test_gradients_come_from_autograd_grad_and_requires_grad_stays_as_it_is(path):
    # backward() and switching requires_grad leave compiled steps silently stale.
    last_names = {name.rpartition(".")[2] for name in dotted_names(path)}
    assert not last_names & {"backward", "requires_grad_"}
