"""Sources, feeds and fed steps: equal conditions, the rows, and the command around them."""
import dataclasses
import json

import pytest
import torch

from fastgan.augment.basic import scale_images
from fastgan.bench import cli as command_line
from fastgan.bench import json_lines
from fastgan.bench.loader import feeding, feeds, files, measure_loader, reading, stepping
from fastgan.bench.loader.loader_plan import Plan, columns
from fastgan.bench.loader.loader_rows import LoaderRow, loader_table
from fastgan.bench.names import LOADER_KINDS, LOADER_PRESETS
from fastgan.bench.peers import dataloader
from fastgan.bench.step_cases import Case, make_case
from fastgan.config import replace
from fastgan.data import ResidentFeed, open_source
from fastgan.data.feeds.order import epoch_order
from fastgan.errors import UserError

CPU = torch.device("cpu")
TINY = Plan(
    rounds=3, num_images=40, num_packed=50, num_read=40, round_s=1e-3, step_round_s=1e-3, step_s=0.0, busy_round_s=1e-3
)


@pytest.fixture
def small(monkeypatch):
    """Set tiny images, networks and batches; one worker where there are any."""
    monkeypatch.setattr(reading, "SIZE", (16, 3))
    monkeypatch.setattr(feeding, "SIZE", (16, 3, 8))
    for module in (feeding, stepping):
        monkeypatch.setattr(module, "NUM_WORKERS", (0, 1))
    monkeypatch.setattr(stepping, "make_case", small_case)


def small_case(preset):
    case = make_case(preset, 8, 16)
    return Case(replace(replace(case.config, "model.ngf", 8), "model.ndf", 8), CPU)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_file_holds_the_same_images(channels, tmp_path):
    images = files.embedded_images(5, 20, channels)
    assert (images.shape, images.dtype) == ((5, 20, 20, channels), torch.uint8)
    assert images.is_contiguous()
    assert images.float().std() > 30
    for name, data in files.write_sources(images, tmp_path / "new").items():
        if name == "embedded":
            continue
        read = open_source(data).read(20, channels).images
        if "JPEG" in name:
            assert (read.int() - images.int()).abs().float().mean() < 20
            assert not torch.equal(read, images)
        else:
            assert torch.equal(read, images), name


def test_the_channels_of_a_colour_image_differ():
    images = files.embedded_images(6, 16, 3)
    assert not torch.equal(images[..., 0], images[..., 1])
    assert not torch.equal(images[..., 1], images[..., 2])


def test_the_whole_set_can_be_written():
    assert (
        len(files.embedded_images(Plan().num_images, 4, 1))
        == Plan().num_images
        == open_source(files.EMBEDDED).num_images
    )


# --- the baseline -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_dataset_of_files_gives_what_fastgan_gives_its_step(channels, tmp_path):
    images = files.embedded_images(4, 12, channels)
    dataset = dataloader.ImageFiles(files.write_folder(images, tmp_path / "png", "png"), channels)
    img = torch.stack([dataset[index] for index in range(len(dataset))])
    assert (img.dtype, img.shape) == (torch.float32, (4, channels, 12, 12))
    assert img[0].is_contiguous()
    torch.testing.assert_close(
        img, scale_images(images.permute(0, 3, 1, 2), -1.0), atol=1e-6, rtol=0, check_stride=False
    )


@pytest.mark.parametrize("num_workers", dataloader.NUM_WORKERS)
def test_batches_are_shuffled_epochs_without_the_incomplete_batch(num_workers):
    torch.manual_seed(0)
    batches = dataloader.endless_batches(list(torch.arange(10.0)), 4, num_workers, CPU)
    epochs = [torch.cat([next(batches), next(batches)]) for _ in range(3)]
    batches.close()
    assert all(len(set(epoch.tolist())) == 8 for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


# --- feeds ------------------------------------------------------------------------------------------------------------


def test_every_backend_gives_the_same_batches(tmp_path):
    images = files.embedded_images(30, 8, 3)
    opened = feeds.open_feeds(images, {"PNG": files.write_folder(images, tmp_path / "png", "png")}, 4, CPU)
    assert list(opened) == ["resident", "stream", *(["dali PNG"] if feeds.has_dali() else [])]
    assert [name for name in opened if not feeds.works_beside(name, CPU)] == ["resident", "stream"]
    assert [name for name in opened if not feeds.works_beside(name, torch.device("cuda"))] == ["resident"]
    expected = [opened["resident"].next_batch().img for _ in range(20)]
    for name, feed in opened.items():
        if name != "resident":
            assert all(torch.equal(feed.next_batch().img, batch) for batch in expected), name
        feed.close()


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_normalised_batch_is_the_feeds_in_floats(compile):
    images = files.embedded_images(30, 8, 3)
    feed, other = (ResidentFeed(images, 4, 0) for _ in range(2))
    next_batch = feeding.normalised(feed, compile)
    for _ in range(9):
        batch = next_batch()
        torch.testing.assert_close(batch, scale_images(other.next_batch().img, -1.0), atol=1e-6, rtol=0)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert feed.nimg == 9 * 4


def test_a_constant_feed_and_a_dataloader_are_feeds():
    batch = torch.zeros(4, 3, 8, 8)
    constant = feeds.ConstantFeed(batch)
    assert constant.next_batch().img is constant.next_batch().img is batch
    assert constant.nimg == 8
    loader = feeds.LoaderFeed(iter_with_close([batch, batch + 1, batch + 2]), 4)
    for index in range(3):
        loader.reserve(1)
        loader.reserve(1)
        assert torch.equal(loader.next_batch().img, batch + index)
    assert loader.nimg == 12
    loader.close()


def iter_with_close(batches):
    yield from batches


# --- rows -------------------------------------------------------------------------------------------------------------


def test_all_kinds_become_rows(small, tmp_path, monkeypatch):
    rows = measure_loader.measure_loader(LOADER_KINDS, ("mlp",), False, TINY, say=lambda text: None)
    by_kind = {kind: [row for row in rows if row.kind == kind] for kind in LOADER_KINDS}
    assert {row.name for row in by_kind["read"]} >= {
        "embedded",
        "folder of PNG",
        "folder of JPEG",
        "zip of PNG",
        "npy",
        "npz",
        "packed",
    }
    loaders = [f"DataLoader {kind} {num} workers" for kind in ("PNG", "JPEG") for num in (0, 1)]
    backends = ["resident", "stream", *(["dali PNG", "dali JPEG"] if feeds.has_dali() else [])]
    assert [row.name for row in by_kind["feed"]] == [*loaders, *backends]
    assert [(row.name, row.num_images) for row in by_kind["pack"]] == [("folder of PNG", 50)]
    assert {row.name for row in by_kind["step"]} >= {
        "resident",
        "stream",
        "DataLoader PNG 0 workers",
        "DataLoader PNG 1 workers",
    }
    assert 1.0 in [row.ratio_to_dataloader for row in by_kind["feed"][:4]]  # the fastest of them
    resident, *_ = (row for row in by_kind["step"] if row.name == "resident")
    assert resident.alone_percent > 0
    assert resident.stall_percent_quartiles[0] <= resident.stall_percent <= resident.stall_percent_quartiles[1]
    assert (resident.preset, resident.rung, resident.batch_size, resident.num_images) == ("mlp", "eager", 8, 40)
    assert all(row.imgs_per_sec_quartiles[0] <= row.imgs_per_sec <= row.imgs_per_sec_quartiles[1] for row in rows)
    path = tmp_path / "loader.jsonl"
    json_lines.append_rows(path, rows)
    assert json_lines.read_rows(path, LoaderRow) == [json.loads(json.dumps(dataclasses.asdict(row))) for row in rows]


def test_a_stall_is_the_part_of_the_step_that_a_constant_batch_does_not_need(monkeypatch):
    steps = stepping.FedSteps(small_case("mlp"), False)
    seconds = {stepping.CONSTANT: [3.0, 3.0, 6.0], "fed": [4.0, 6.0, 8.0], stepping.ALONE + "fed": [0.06, 0.06, 0.06]}
    monkeypatch.setattr(
        stepping.timing, "interleave", lambda calls, *arguments: ({name: seconds[name] for name in calls}, {})
    )
    (row,) = steps.columns({"fed": feeds.ConstantFeed(torch.zeros(8, 1, 16, 16))}, TINY, "a note", print)
    assert (row["stall_percent"], row["stall_percent_quartiles"]) == (25.0, (25.0, 37.5))
    assert row["alone_percent"] == pytest.approx(1.0)
    assert row["imgs_per_sec"] == pytest.approx(8 / 6)
    assert row["note"] == "a note"
    (row,) = steps.columns({"fed": feeds.ConstantFeed(torch.zeros(8, 1, 16, 16))}, TINY, "", print, beside=True)
    assert row["alone_percent"] is None


def test_a_step_uses_the_batch_of_its_feed():
    images = files.embedded_images(40, 16, 1)
    feed, other = (ResidentFeed(images, 8, 0) for _ in range(2))
    given = []
    feed.read = lambda: given.append(other.next_batch()) or given[-1]
    engine = stepping.FedSteps(small_case("mlp"), False).engine_on(feed)
    given.clear()
    other.seek(0)
    launch = stepping.launching(engine, feed)
    launch()
    launch()
    assert feed.nimg == 16
    assert torch.equal(
        torch.cat([batch.img for batch in given]), images.permute(0, 3, 1, 2)[epoch_order(40, 0, 0)[:16]]
    )


def test_the_ratio_is_to_the_fastest_dataloader_of_the_round():
    call_s = {("DataLoader PNG 0 workers", ""): [4.0, 4.0, 8.0], ("DataLoader JPEG 1 workers", ""): [2.0, 3.0, 4.0]}
    call_s["resident", "eager"] = [1.0, 1.0, 1.0]
    rows = {row["name"]: row for row in feeding._all_columns(call_s, TINY, "", print)}
    assert rows["resident"]["ratio_to_dataloader"] == 3.0
    assert rows["resident"]["ratio_to_dataloader_quartiles"] == (2.5, 3.5)
    assert rows["DataLoader JPEG 1 workers"]["ratio_to_dataloader"] == 1.0
    assert rows["DataLoader PNG 0 workers"]["ratio_to_dataloader"] == 0.5


def test_a_table_has_a_line_a_row_and_a_stamp():
    shared = {
        "command": "fastgan bench loader",
        "date": "",
        "commit": None,
        "torch": "2",
        "machine": measure_loader.machine.stamp(),
    }
    of_step = columns("step", "resident", (64, 3, 64), 9, [0.5], 64, "") | {
        "preset": "dcgan",
        "dtype": "bf16",
        "rung": "eager",
    }
    step = LoaderRow(
        **of_step | {"stall_percent": 0.25, "stall_percent_quartiles": (0.0, 0.5), "alone_percent": 0.125}, **shared
    )
    read = LoaderRow(**columns("read", "npy", (28, 1, None), 9, [1.0, 1.0], 9, ""), **shared)
    lines = loader_table([dataclasses.asdict(row) for row in (step, read)]).splitlines()
    assert "commit none" in lines[0]
    assert lines[4] == "| step dcgan bf16 resident eager | 64x64x3 batch 64 | 128 (128–128) |  | 0.25 (0–0.5) | 0.125 |"
    assert lines[5] == "| read npy | 28x28x1 | 9 (9–9) |  |  |  |"
    assert lines[-1].strip() == "fastgan bench loader"


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_measures_shows_and_saves(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fastgan.bench.loader.loader_rows.LOADER_RESULTS", tmp_path / "loader.jsonl")
    monkeypatch.setattr("fastgan.bench.loader.loader_plan.Plan", lambda rounds, autotune: TINY)
    assert command_line.main(["loader", "--only", "read", "--save"]) == 0
    shown = capsys.readouterr().out
    assert "| read folder of PNG | 16x16x3 |" in shown
    assert command_line.main(["table", str(tmp_path / "loader.jsonl")]) == 0
    assert capsys.readouterr().out.strip() == shown.strip()


def test_too_few_rounds_are_refused(capsys):
    assert command_line.main(["loader", "--rounds", "3"]) == 2
    assert "at least 7" in capsys.readouterr().err


def test_every_preset_that_can_be_named_is_one():
    for preset in LOADER_PRESETS:
        assert make_case(preset).config.preset == preset
    with pytest.raises(UserError):
        make_case("loader")
