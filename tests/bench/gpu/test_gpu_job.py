"""The main job, of one step on the CPU, and a chip's facts without a chip."""
import json
import os
from pathlib import Path

import pytest

from fastgan.bench import json_lines
from fastgan.bench.gpu import chip, job


def test_the_row_of_a_run(tmp_path):
    options = {
        "preset": "dcgan",
        "model": {"img_resolution": 32, "img_channels": 1},
        "run": {"batch_size": 64, "amp": False},
    }
    (tmp_path / "training_options.json").write_text(json.dumps(options))
    (tmp_path / "log.txt").write_text(
        "2026-01-01T00:00:00Z training on cuda with the captured step, ready in 41.3 s\n2026 the rest\n"
    )
    ticks = [
        {"nimg": nimg, "imgs_per_sec": rate, "outside_step": 0.01, "rung": "captured"}
        for nimg, rate in ((64, 1.0), (128, 3.0), (256, 3.5))
    ]
    (tmp_path / "stats.jsonl").write_text("".join(json.dumps(tick) + "\n" for tick in ticks))
    for name, written_at in (("fakes_init.png", 1010.0), ("fakes000128.png", 1030.5), ("reals.png", 1099.0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (written_at, written_at))
    row = job.row_of(tmp_path, job.TRAIN, started=1000.0, command_s=33.0)
    assert (row["total_s"], row["command_s"], row["compile_s"], row["kimg"]) == (30.5, 33.0, 41.3, 0.256)
    assert (row["imgs_per_sec"], row["rung"], row["dtype"], row["command"]) == (
        3.0,
        "captured",
        "fp32",
        "fastgan train --amp --compile",
    )
    kept = Path(__file__).parents[3] / "bench/results/main_job.jsonl"
    assert row.keys() >= json.loads(kept.read_text().splitlines()[0]).keys()


def test_a_small_run_from_cold():
    row = job.run_cold(("train", "--preset", "mlp", "--no-compile", "--no-amp", "--steps", "2", "--device", "cpu"))
    assert (row["rung"], row["kimg"], row["case"]) == ("eager", 0.128, "cold cache")
    assert 0 < row["total_s"] <= row["command_s"]


def test_what_is_set_is_handed_on(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "run_cold", lambda arguments: {"arguments": " ".join(arguments)})
    assert job.main(["--set", "run.autotune=true", "--rows", str(tmp_path / "rows.jsonl")]) == 0
    arguments = "train --amp --compile --set run.autotune=true"
    assert json_lines.rows_since(tmp_path / "rows.jsonl") == [{"arguments": arguments}]


@pytest.mark.parametrize(
    ("listing", "found"),
    [
        ({"--list-elf": "ELF file    1: libfastgan_ops.1.sm_80.cubin\nELF file    2: "
                        "libfastgan_ops.2.sm_90a.cubin\nELF file 3: x.3.sm_80.cubin",
          "--list-ptx": "PTX file    1: libfastgan_ops.1.sm_90.ptx"}, ["sm_80", "sm_90a", "sm_90 ptx"]),
        ({"--list-elf": "", "--list-ptx": None}, []),
        ({"--list-elf": None, "--list-ptx": None}, None),
    ],
)  # fmt: skip
def test_what_the_library_was_built_for(listing, found, monkeypatch, tmp_path):
    monkeypatch.setattr(chip, "_output", lambda program, option, path: listing[option])
    assert chip.architectures(tmp_path / "libfastgan_ops.so") == found


def test_clocks_by_the_name_of_their_query(monkeypatch):
    monkeypatch.setattr(chip, "_output", lambda *command: "1980 MHz, 3201 MHz, 120 W, 34, 4 MiB")
    assert chip.clocks()["clocks.mem"] == "3201 MHz"
    monkeypatch.setattr(chip, "_output", lambda *command: None)
    assert chip.clocks() is None


def test_rates_are_measured(monkeypatch):
    import torch

    from fastgan.bench import flops
    from fastgan.bench.ops import measure_ops
    from fastgan.bench.switches import present

    before = present()
    monkeypatch.setattr(flops, "MATMUL_SIZE", {"cpu": 32})
    monkeypatch.setattr(measure_ops, "COPY_BYTES", {"cpu": 1 << 12})
    monkeypatch.setattr(chip, "ROUND_S", 0.001)
    monkeypatch.setattr(chip, "BUSY_CALLS", 2)
    monkeypatch.setattr(chip, "clocks", lambda: {"clocks.sm": "1 MHz"})
    found = chip.measure_ceilings(torch.device("cpu"))
    before.apply()
    assert set(found["matmul_tflops"]) == {"bf16", "tf32", "fp32"}
    assert min(*found["matmul_tflops"].values(), found["copy_gbytes_per_s"]) > 0
    assert found["clocks_busy"] == {"clocks.sm": "1 MHz"}
