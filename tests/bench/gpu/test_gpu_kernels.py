"""The kernel table, from events as the profiler gives them."""
import gzip
import json
from types import SimpleNamespace

import pytest
from torch.autograd import DeviceType

from fastgan.bench import json_lines
from fastgan.bench.gpu import kernels, plan
from fastgan.bench.gpu.evidence import EVIDENCE


def kernel(name, us, is_user_annotation=False):
    elapsed = SimpleNamespace(elapsed_us=lambda: us)
    return SimpleNamespace(
        name=name, device_type=DeviceType.CUDA, time_range=elapsed, is_user_annotation=is_user_annotation
    )


def call(name, us, shapes, values):
    return SimpleNamespace(
        name=name, device_type=DeviceType.CPU, device_time_total=us, input_shapes=shapes, concrete_inputs=values
    )


EVENTS = [
    call("aten::mm", 40.0, [[1000, 1000], [1000, 1000]], [None, None]),
    kernel("gemm", 40.0),
    call("aten::mm", 60.0, [[1000, 1000], [1000, 1000]], [None, None]),
    kernel("gemm", 60.0),
    call("aten::relu", 20.0, [[10]], [None]),
    kernel("relu|vectorised", 10.0),
    kernel("relu|vectorised", 10.0),
    kernel("a step of the profiler", 500.0, is_user_annotation=True),
    call("fastgan::deconv_weight", 30.0, [[2, 8, 5, 3], [2, 4, 10, 6]], [None, None]),
    kernel("deconv", 30.0),
    call("aten::mm", 0, [[2, 2], [2, 2]], [None, None]),  # launched nothing
]


def test_rows_are_per_call_of_the_step():
    total, *found = kernels.measured_rows(EVENTS, num_calls=2, wall_us=90.0)
    assert total == {"kind": "total", "kernels": 2.5, "microseconds": 75.0, "wall_us": 90.0}
    names = [row for row in found if row["kind"] == "kernel"]
    expected = [("gemm", 1.0, 50.0), ("deconv", 0.5, 15.0), ("relu|vectorised", 1.0, 10.0)]
    assert [(row["name"], row["calls"], row["microseconds"]) for row in names] == expected
    assert sum(row["share"] for row in names) == pytest.approx(1)
    product, deconv = (row for row in found if row["kind"] == "call")
    assert (product["op"], product["shapes"], product["gflop"], product["calls"]) == (
        "aten::mm",
        "1000x1000 1000x1000",
        2.0,
        1.0,
    )
    assert product["tflops"] == pytest.approx(2e9 / 50e-6 / 1e12)
    assert deconv["tflops"] == pytest.approx(2 * 2 * 8 * 5 * 3 * 4 * 16 / 30e-6 / 1e12)


def test_a_graph_has_kernels_and_no_calls(tmp_path):
    found = kernels.measured_rows([event for event in EVENTS if event.device_type == DeviceType.CUDA], 2, 90.0)
    assert {row["kind"] for row in found} == {"total", "kernel"}


def test_markdown_has_two_tables_a_rung():
    shared = {"preset": "dcgan", "batch_size": 128, "dtype": "bf16", "gpu": "Some GPU", "note": "K = 8"}
    found = [
        {**row, **shared, "rung": rung}
        for rung in ("eager", "compiled")
        for row in kernels.measured_rows(EVENTS, 2, 90.0)
    ]
    lines = kernels.markdown(found).splitlines()
    assert lines[0] == "## eager: dcgan batch 128 bf16 on Some GPU, 2 kernels, 75 us of kernels in 90 us (K = 8)"
    assert "| `gemm` | 1 | 50 | 66.7 |" in lines
    assert "| `relu\\|vectorised` | 1 | 10 | 13.3 |" in lines
    assert "| aten::mm | 1000x1000 1000x1000 | 1 | 50 | 2 | 40 |" in lines
    assert (
        sum(line.startswith("| kernel |") for line in lines) == sum(line.startswith("| call |") for line in lines) == 2
    )


def test_a_rung_is_built_profiled_and_written(tmp_path, monkeypatch):
    """The kernels of the profile are replaced, for on a CPU there are none."""
    measured = []
    measured_rows = kernels.measured_rows
    monkeypatch.setattr(
        kernels,
        "measured_rows",
        lambda events, num, wall_us: measured.append(list(events)) or measured_rows(EVENTS, num, wall_us),
    )
    path = tmp_path / plan.KERNELS
    monkeypatch.setenv(EVIDENCE, str(tmp_path))
    assert (
        kernels.main(["--preset", "mlp", "--batch-size", "4", "--rungs", "eager", "no-such-rung", "--rows", str(path)])
        == 0
    )
    assert {row["rung"] for row in json_lines.rows_since(path)} == {"eager"}
    assert json_lines.rows_since(path)[0]["commit"] == kernels.machine.commit()
    assert any(event.name == "aten::addmm" and event.input_shapes for event in measured[0])
    assert (tmp_path / "kernels.md").read_text().startswith("## eager: mlp batch 4")
    with gzip.open(tmp_path / "trace-eager.json.gz") as trace:
        assert any(event.get("name") == "aten::addmm" for event in json.load(trace)["traceEvents"])
