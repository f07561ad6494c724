"""The cases of `fastgan bench step` at small sizes under pytest-benchmark: `pytest bench/ -n 0`.

For watching a change, not for quoting.
"""
import pytest

from fastgan.bench.implementations import Implementation, build_accelerated, build_plain, build_rung
from fastgan.bench.step_cases import Case, make_case
from fastgan.bench.timing import synchronize
from fastgan.config import replace

SMALL = {"mlp": 64, "mlp-tf": 64, "mlp-mnist": 64, "gaussian1d": 100, "dcgan": 16}  # preset -> batch size
COMPILED_PRESETS = ("mlp", "dcgan")  # compiling takes far longer than measuring
BUILDERS = {
    "plain": build_plain,
    "accelerated": lambda case: build_accelerated(case, amp=False),
    "eager": lambda case: build_rung(case, False, "eager"),
    "compiled": lambda case: build_rung(case, False, "compiled"),
}
PAIRS = [
    (preset, name) for preset in SMALL for name in BUILDERS if name in ("plain", "eager") or preset in COMPILED_PRESETS
]


def small_case(preset: str) -> Case:
    if preset != "dcgan":
        return make_case(preset, SMALL[preset])
    case = make_case(preset, SMALL[preset], resolution=16)
    return Case(replace(replace(case.config, "model.ngf", 8), "model.ndf", 8), case.device)


@pytest.mark.parametrize(("preset", "name"), PAIRS)
def test_step(benchmark, preset, name):
    implementation: Implementation = BUILDERS[name](small_case(preset))
    benchmark.group = f"{preset} {implementation.dtype}"
    benchmark.extra_info |= {"compile_s": implementation.compile_s, "note": implementation.note}

    def step() -> None:
        implementation.step()
        synchronize()

    benchmark.pedantic(step, rounds=20, iterations=5, warmup_rounds=2)
    assert implementation.name == name, implementation.note
