import errno
import math
import os
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastgan import plots
from fastgan.errors import DiskError, UserError
from fastgan.plots import curves

BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


def _pixels(path) -> torch.Tensor:
    """Return the pixels [H, W, C] of a picture."""
    with Image.open(path) as image:
        return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, -1)


def _num_pixels(path, color) -> int:
    with Image.open(path) as image:
        counts = dict((pixel, count) for count, pixel in image.convert("RGB").getcolors(2**24))
    return counts.get(color, 0)


def _random_images(*shape) -> torch.Tensor:
    return torch.randint(1, 256, shape, dtype=torch.uint8)


@given(num_images=st.integers(1, 3000))
def test_grid_size_holds_all_and_wastes_less_than_a_row(num_images):
    rows, columns = plots.grid_size(num_images)
    assert 0 <= rows * columns - num_images < columns
    assert rows <= columns <= 4 * rows


def test_grid_size_is_square_for_squares_and_exact_where_it_can_be():
    assert [plots.grid_size(side * side) for side in range(1, 20)] == [(side, side) for side in range(1, 20)]
    assert [plots.grid_size(num) for num in (2, 3, 8, 10, 12, 32)] == [(1, 2), (1, 3), (2, 4), (2, 5), (3, 4), (4, 8)]
    with pytest.raises(ValueError, match="at least one"):
        plots.grid_size(0)


@given(low=st.floats(-10, 10), width=st.floats(0.01, 20))
def test_to_uint8_inverts_every_level_and_clamps(low, width):
    levels = torch.arange(256)
    img = (low + levels.double() * width / 255).float()
    assert torch.equal(plots.to_uint8(img.double(), low, low + width), levels.to(torch.uint8))
    assert plots.to_uint8(
        torch.tensor([low - 1.0, low + width + 1, -math.inf, math.inf, math.nan]), low, low + width
    ).tolist() == [0, 255, 0, 255, 0]


def test_to_uint8_rounds_and_computes_above_bfloat16():
    assert plots.to_uint8(torch.tensor([0.4, 0.6, 254.4, 254.6]), 0, 255).tolist() == [0, 1, 254, 255]
    img = torch.tensor([0.45703125], dtype=torch.bfloat16)  # level 185.77, which bfloat16 cannot hold
    assert plots.to_uint8(img, -1, 1).tolist() == [186]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_a_grid_shows_every_image_in_its_cell(tmp_path, channels, mode):
    images = _random_images(5, channels, 40, 33).to(memory_format=torch.channels_last)
    plots.save_grid(images, tmp_path / "grid.png", columns=2)
    with Image.open(tmp_path / "grid.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", mode, (2 * 33, 3 * 40))
    pixels = _pixels(tmp_path / "grid.png")
    for index, img in enumerate(images):
        row, column = divmod(index, 2)
        assert torch.equal(pixels[row * 40:(row + 1) * 40, column * 33:(column + 1) * 33], img.permute(1, 2, 0))
    assert not pixels[80:, 33:].any()


@pytest.mark.parametrize(
    ("num", "tile", "factor"),
    [(4, 8, 4), (4, 28, 2), (4, 32, 1), (4, 1, 32), (1024, 24, 2), (1600, 28, 1), (2, 1100, 1)],
)
def test_small_images_are_enlarged_by_a_whole_factor(tmp_path, num, tile, factor):
    images = _random_images(num, 1, tile, tile)
    plots.save_grid(images, tmp_path / "grid.png")
    pixels = _pixels(tmp_path / "grid.png")
    rows, columns = plots.grid_size(num)
    assert pixels.shape == (rows * tile * factor, columns * tile * factor, 1)
    assert torch.equal(pixels[:tile * factor:factor, :tile * factor:factor, 0], images[0, 0])
    assert torch.equal(pixels[factor - 1:tile * factor:factor, factor - 1:tile * factor:factor, 0], images[0, 0])


@pytest.mark.parametrize("images", [
    torch.zeros(4, 2, 8, 8, dtype=torch.uint8), torch.zeros(4, 5, 8, 8, dtype=torch.uint8), torch.zeros(4, 3, 8, 8),
    torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(0, 3, 8, 8, dtype=torch.uint8),
])
def test_what_is_no_picture_is_refused(tmp_path, images):
    with pytest.raises(UserError):
        plots.save_grid(images, tmp_path / "grid.png")
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"grid\.jpg"):
        plots.save_grid(_random_images(1, 3, 8, 8), tmp_path / "grid.jpg")


def _rows(num):
    return [
        {
            "kimg": float(index),
            "d_loss": 1 + math.sin(index),
            "g_loss": 2.0,
            "real_logits": 1.0,
            "fake_logits": -1.0,
            "sample_mean": index / num,
            "sample_std": 1.0,
            "sample_skewness": 0.1,
            "sample_kurtosis": None,
        }
        for index in range(num)
    ]


def test_loss_curves_are_drawn_in_both_colours(tmp_path):
    plots.save_losses(_rows(50), tmp_path / "losses.png")
    assert _num_pixels(tmp_path / "losses.png", BLUE) > 500
    assert _num_pixels(tmp_path / "losses.png", ORANGE) > 500


def test_nulls_absent_values_and_empty_runs_are_no_obstacle(tmp_path):
    path = tmp_path / "losses.png"
    plots.save_losses([], path)
    legend_only = _num_pixels(path, ORANGE)
    plots.save_losses([{"kimg": 1.0, "d_loss": 0.5, "g_loss": None}, {"kimg": 2.0}], path)
    assert _num_pixels(path, ORANGE) < legend_only + 100  # the legend has markers now, but no curve is there
    every_second = [{**row, "g_loss": row["g_loss"] if index % 2 else None} for index, row in enumerate(_rows(50))]
    plots.save_losses(every_second, path)
    assert _num_pixels(path, ORANGE) > legend_only + 500


ALSO = {"gradient_norm_G": 1.0, "sample_distance": 0.5, "r1_penalty": 0.1, "class_loss": 1.0, "augment_p": 0.1}


def _panel_rows(path) -> int:
    with Image.open(path) as image:
        return round(image.height / (2.9 * 120))


def test_there_is_a_panel_for_what_has_values_alone(tmp_path):
    path, rows = tmp_path / "losses.png", _rows(30)
    for num, name in enumerate((None, *ALSO)):
        rows = [{**row, name: ALSO[name] * (1 + row["kimg"])} if name else row for row in rows]
        plots.save_losses(rows, path)
        assert _panel_rows(path) == math.ceil((2 + num) / 2)
    plots.save_losses([{**row, **dict.fromkeys(ALSO)} for row in rows], path)
    assert _panel_rows(path) == 1


def test_each_curve_of_a_panel_has_its_own_colour(tmp_path):
    rows = [{**row, "gradient_penalty": 1.0 + row["kimg"], "path_length": 3.0 + row["kimg"]} for row in _rows(30)]
    plots.save_losses(rows, tmp_path / "losses.png")
    assert _num_pixels(tmp_path / "losses.png", (0xCC, 0x79, 0xA7)) > 300


@pytest.mark.parametrize("value", [0.0, None, -1.0])
def test_norms_that_no_logarithm_can_show_are_no_obstacle(tmp_path, value):
    plots.save_losses(
        [{**row, "gradient_norm_G": value, "gradient_norm_D": value} for row in _rows(3)], tmp_path / "losses.png"
    )
    assert (tmp_path / "losses.png").stat().st_size > 5000


@pytest.mark.parametrize(("num", "panel_rows"), [(1, 1), (2, 1), (3, 2), (6, 3)])
def test_every_metric_has_a_panel_and_the_best_a_line(tmp_path, num, panel_rows):
    names = [f"metric{number}" for number in range(num)]
    rows = [{"kimg": float(kimg), **{name: 1.0 + kimg for name in names}} for kimg in range(30)] + [
        {"kimg": 30.0, "metric0": None}
    ]
    counts = []
    for best_kimg in (None, 10.0):
        plots.save_metrics(rows, names, tmp_path / "metrics.png", best_kimg)
        counts.append(_num_pixels(tmp_path / "metrics.png", (0x77, 0x77, 0x77)))
    assert _panel_rows(tmp_path / "metrics.png") == panel_rows
    assert _num_pixels(tmp_path / "metrics.png", BLUE) > 300 * num
    assert counts[1] > counts[0] + 50 * num


def test_points_are_drawn_over_their_modes(tmp_path):
    centres = torch.tensor([[-2.0, 0], [2, 0], [0, 2]])
    pixels = []
    for shown in ([0], [0, 1], [0, 1, 2]):
        samples = centres[shown].repeat(200, 1) + 0.05 * torch.randn(200 * len(shown), 2)
        plots.save_points(samples, centres, tmp_path / "points.png")
        pixels.append(_bluish(tmp_path / "points.png"))
        assert _num_pixels(tmp_path / "points.png", ORANGE) > 300
    assert pixels[0] > 50
    assert pixels[1] > 1.5 * pixels[0]
    assert pixels[2] > 1.2 * pixels[1]


def _bluish(path) -> int:
    """Return the pixels of a blue that may be mixed with white."""
    red, green, blue = _pixels(path).int().movedim(2, 0)[:3]
    return ((blue - red > 60) & (blue > green)).sum().item()


@pytest.mark.parametrize("stray", [1e30, math.nan, math.inf])
def test_points_beyond_the_plot_are_counted_and_do_not_change_it(tmp_path, monkeypatch, stray):
    figures = []
    monkeypatch.setattr(curves, "_save_figure", lambda figure, path: figures.append(figure))
    samples = torch.randn(8, 2) * 0.1
    for points in (samples, torch.cat([samples[:6], torch.tensor([[stray, 0.0], [0.0, stray]])])):
        plots.save_points(points.requires_grad_(), torch.zeros(1, 2), tmp_path / "points.png")
    (axes,), (strayed,) = (figure.axes for figure in figures)
    assert axes.get_xlim() == strayed.get_xlim() == (-1, 1)
    assert axes.get_ylim() == strayed.get_ylim() == (-1, 1)
    labels = [[text.get_text() for text in each.get_legend().get_texts()] for each in (axes, strayed)]
    assert labels == [["modes (1)", "G(z): 8 samples"], ["modes (1)", "G(z): 8 samples, 25.0% outside this plot"]]


def test_plots_need_no_pyplot(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now raises
    plots.save_losses(_rows(3), tmp_path / "losses.png")
    plots.save_histogram(torch.randn(100), 0, 1, tmp_path / "histogram.png")
    plots.save_moments(_rows(3), 0, 1, tmp_path / "moments.png")
    plots.save_points(torch.randn(9, 2), torch.zeros(1, 2), tmp_path / "points.png")
    assert len(list(tmp_path.iterdir())) == 4


def _save_frames(folder, num):
    """Save grids of 7 black and white tiles.

    They show the number of the frame in binary, which survives a lossy format.
    """
    paths = [folder / f"fakes{index:06d}.png" for index in range(num)]
    for index, path in enumerate(paths):
        bits = torch.tensor([index >> bit & 1 for bit in range(7)], dtype=torch.uint8)
        plots.save_grid((255 * bits).view(7, 1, 1, 1).expand(7, 3, 8, 8), path, columns=7)
    return paths


def _frames(path):
    """Return the number and the duration in ms of every frame."""
    with Image.open(path) as image:
        shown = []
        for index in range(image.n_frames):
            image.seek(index)
            frame = image.convert("L")
            shown.append(
                (sum((frame.getpixel((32 * bit + 16, 16)) > 127) << bit for bit in range(7)), image.info["duration"])
            )
    return shown


def test_progress_shows_every_frame_and_holds_the_last(tmp_path):
    assert plots.save_progress(_save_frames(tmp_path, 4), tmp_path / "progress.webp", seconds=2.0) == 4
    numbers, durations = zip(*_frames(tmp_path / "progress.webp"), strict=True)
    assert numbers == (0, 1, 2, 3)
    assert durations[:3] == (500, 500, 500)
    assert durations[3] > 1000


def test_long_runs_are_thinned_but_keep_the_first_and_the_last(tmp_path):
    assert plots.save_progress(_save_frames(tmp_path, 120), tmp_path / "progress.webp") == 100
    numbers = [number for number, _ in _frames(tmp_path / "progress.webp")]
    assert (len(numbers), numbers[0], numbers[-1]) == (100, 0, 119)
    assert {after - before for before, after in zip(numbers, numbers[1:], strict=False)} == {1, 2}


def test_frames_of_another_size_are_not_counted(tmp_path):
    paths = _save_frames(tmp_path, 3)
    plots.save_grid(_random_images(1, 3, 64, 64), paths[0])
    assert plots.save_progress(paths, tmp_path / "progress.webp") == 2
    assert [number for number, _ in _frames(tmp_path / "progress.webp")] == [1, 2]


def test_grey_and_large_frames(tmp_path):
    plots.save_grid(_random_images(1, 1, 1500, 1100), tmp_path / "fakes000000.png")
    assert plots.save_progress([tmp_path / "fakes000000.png"], tmp_path / "progress.webp") == 1
    with Image.open(tmp_path / "progress.webp") as image:
        assert image.size == (550, 750)


def test_frames_that_cannot_be_read_are_named(tmp_path):
    paths = _save_frames(tmp_path, 3)
    for content in (b"no picture", paths[1].read_bytes()[:-40]):
        paths[1].write_bytes(content)
        with pytest.raises(UserError, match=r"fakes000001\.png"):
            plots.save_progress(paths, tmp_path / "progress.webp")
    with pytest.raises(UserError, match="at least one frame"):
        plots.save_progress([], tmp_path / "progress.webp")


@given(
    values=st.lists(st.floats(-100, 100), min_size=2, max_size=50), shift=st.floats(-50, 50), scale=st.floats(0.1, 10)
)
def test_moments_follow_a_linear_map(values, shift, scale):
    samples = torch.tensor(values, dtype=torch.float64)
    before, after = plots.moments(samples), plots.moments(-scale * samples + shift)
    assert after["mean"] == pytest.approx(-scale * before["mean"] + shift, abs=1e-9)
    assert after["std"] == pytest.approx(scale * before["std"], abs=1e-9)
    if before["std"] > 1e-3:
        assert after["skewness"] == pytest.approx(-before["skewness"], rel=1e-6, abs=1e-6)
        assert after["kurtosis"] == pytest.approx(before["kurtosis"], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_moments_of_bernoulli_samples_are_closed_forms(p):
    samples = torch.zeros(10, 20, dtype=torch.float32)
    samples.view(-1)[:round(200 * p)] = 1
    variance = p * (1 - p)
    expected = {
        "mean": p,
        "std": variance**0.5,
        "skewness": (1 - 2 * p) / variance**0.5,
        "kurtosis": (1 - 6 * variance) / variance,
    }
    assert plots.moments(samples) == pytest.approx(expected, abs=1e-9)


def test_moments_of_a_uniform_and_of_equal_samples():
    uniform = plots.moments((torch.arange(10**5, dtype=torch.float64) + 0.5) / 10**5)
    assert uniform == pytest.approx({"mean": 0.5, "std": 12**-0.5, "skewness": 0.0, "kurtosis": -1.2}, abs=1e-6)
    equal = plots.moments(torch.full((7,), 0.1, dtype=torch.float64))
    assert (equal["mean"], equal["std"]) == (0.1, 0.0)
    assert math.isnan(equal["skewness"])
    assert math.isnan(equal["kurtosis"])


def test_moments_are_taken_in_float64():
    samples = torch.tensor([1e4 - 1, 1e4 + 1], dtype=torch.float32)
    assert plots.moments(samples.repeat(1000)) == pytest.approx(
        {"mean": 1e4, "std": 1.0, "skewness": 0.0, "kurtosis": -2.0}, abs=1e-9
    )


def _histogram_height(path) -> float:
    """Return the height of the histogram's highest filled row, as a share of the picture's height.

    It is measured below the legend, in a column right of the middle.
    """
    with Image.open(path) as image:
        image = image.convert("RGB")
        column = [image.getpixel((round(0.60 * image.width), y)) for y in range(image.height)]
    return sum(red < 160 and blue > red + 60 for red, _, blue in column) / len(column)


def test_the_histogram_is_a_density_of_all_samples(tmp_path):
    samples = 4 + 1.25 * torch.erfinv(torch.linspace(-1, 1, 20_002)[1:-1]) * 2**0.5
    plots.save_histogram(samples, 4, 1.25, tmp_path / "all.png")
    plots.save_histogram(torch.cat([samples, torch.full_like(samples, 100)]), 4, 1.25, tmp_path / "half.png")
    assert _histogram_height(tmp_path / "all.png") == pytest.approx(
        2 * _histogram_height(tmp_path / "half.png"), rel=0.1
    )
    assert _num_pixels(tmp_path / "all.png", ORANGE) > 200


@pytest.mark.parametrize("value", [4.0, 1e9, math.nan, math.inf])
def test_a_histogram_of_a_collapsed_or_diverged_generator(tmp_path, value):
    plots.save_histogram(torch.full((10, 1), value, requires_grad=True), 4, 1.25, tmp_path / "histogram.png")
    assert _num_pixels(tmp_path / "histogram.png", ORANGE) > 200


def test_moments_over_kimg(tmp_path):
    plots.save_moments(_rows(50), 0.5, 1.0, tmp_path / "moments.png")
    assert _num_pixels(tmp_path / "moments.png", BLUE) > 300


def test_a_full_disk_leaves_the_old_picture(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "grid.png"
    plots.save_grid(_random_images(1, 3, 32, 32), path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", full)
    for save in (lambda: plots.save_grid(_random_images(1, 3, 32, 32), path), lambda: plots.save_losses(_rows(3), path),
                 lambda: plots.save_progress([path], path)):
        with pytest.raises(DiskError, match=r"grid\.png: No space left"):
            save()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_pictures_of_volumes_and_of_any_number_of_channels():
    volume = torch.arange(2 * 1 * 4 * 3 * 5, dtype=torch.uint8).view(2, 1, 4, 3, 5)
    assert torch.equal(plots.as_pictures(volume), volume[:, :, 2])
    for channels, shown in ((1, 1), (2, 1), (3, 3), (4, 4), (5, 3), (12, 3)):
        images = torch.randint(0, 256, (2, channels, 3, 5), dtype=torch.uint8)
        assert torch.equal(plots.as_pictures(images), images[:, :shown])
    assert plots.as_pictures(torch.zeros(2, 1, 9, dtype=torch.uint8)) is None
