import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import BY_DALI, BY_PILLOW, encoded, picture, translucent
from PIL import Image

from fastgan.data import open_source
from fastgan.data.dali.files import EncodedFiles
from fastgan.data.images import BadImage, fit
from fastgan.errors import UserError

MIDDLE = np.full(3, 0.5)


def files_of(
    folder, *contents: bytes, img_resolution: int = 20, img_channels: int = 3, random_crop: float = 1.0
) -> EncodedFiles:
    for number, content in enumerate(contents):
        (folder / f"{number:03}.png").write_bytes(content)
    (folder / "999.png").write_bytes(encoded(picture()))  # a set needs two
    return EncodedFiles(open_source(folder), img_resolution, img_channels, random_crop)


@pytest.mark.parametrize("kind", BY_DALI)
def test_what_dali_decodes_like_pillow_is_handed_over_as_it_is(tmp_path, kind):
    assert files_of(tmp_path, BY_DALI[kind]).encoded(0, MIDDLE).data.tobytes() == BY_DALI[kind]


@pytest.mark.parametrize("img_channels", [1, 3])
@pytest.mark.parametrize("kind", BY_PILLOW)
def test_everything_else_is_handed_over_as_the_pixels_that_fit_makes(tmp_path, kind, img_channels):
    files = files_of(tmp_path, BY_PILLOW[kind], img_channels=img_channels)
    one = files.encoded(0, MIDDLE)
    with Image.open(io.BytesIO(one.data.tobytes())) as image:
        pixels = np.asarray(image).reshape(20, 20, img_channels)
    expected = fit(files.source.open_image(0, BY_PILLOW[kind]), 20, img_channels)[0]
    np.testing.assert_array_equal(pixels, expected)
    assert (one.corner, one.side) == ((0, 0), 20)


def test_images_to_be_framed_and_files_left_to_pillow_are_its(tmp_path):
    small, large = encoded(picture(16, 30)), encoded(picture())
    files = files_of(tmp_path, small, large)
    assert files.encoded(0, MIDDLE).data.tobytes() != small
    assert files.encoded(1, MIDDLE).data.tobytes() == large
    assert files.leave_to_pillow(np.array([0, 1]))
    assert files.encoded(1, MIDDLE).data.tobytes() != large
    assert not files.leave_to_pillow(np.array([0, 1]))


def test_what_pillow_refuses_is_bad(tmp_path):
    jpeg = encoded(picture(), "JPEG")
    files = files_of(tmp_path, b"no picture", jpeg[:-2], jpeg[:300], encoded(picture(8, 30)))
    for row in range(4):
        with pytest.raises(BadImage):
            files.encoded(row, MIDDLE)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_squares_lie_in_the_image_and_are_not_enlarged(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("files")
    height, width = data.draw(st.integers(8, 40)), data.draw(st.integers(8, 40))
    random_crop = data.draw(st.floats(0.01, 0.99))
    files = files_of(folder, encoded(picture(height, width)), img_resolution=8, random_crop=random_crop)
    one = files.encoded(
        0, np.array(data.draw(st.lists(st.sampled_from([0.0, 0.3, np.nextafter(1, 0)]), min_size=3, max_size=3)))
    )
    shorter = min(height, width)
    assert max(8, round(random_crop * shorter)) <= one.side <= shorter
    assert 0 <= one.corner[0] <= height - one.side
    assert 0 <= one.corner[1] <= width - one.side


def test_random_squares_reach_every_size_and_side(tmp_path):
    files = files_of(tmp_path, encoded(picture(23, 37)), img_resolution=8, random_crop=0.5)
    squares = [files.encoded(0, uniform) for uniform in np.random.default_rng(0).random((2000, 3))]
    assert {one.side for one in squares} == set(range(12, 24))
    assert {one.corner[0] for one in squares} == set(range(12))
    assert max(one.corner[1] + one.side for one in squares) == 37


def test_a_random_square_of_a_file_of_pillows_is_cut_out_at_full_size(tmp_path):
    uniform = np.array([0.4, 0.9, 0.1])
    opaque = Image.open(io.BytesIO(encoded(translucent())))
    direct = files_of(tmp_path, encoded(picture()), img_resolution=8, random_crop=0.5).encoded(0, uniform)
    (top, left), side = direct.corner, direct.side
    one = files_of(tmp_path, encoded(opaque), img_resolution=8, random_crop=0.5).encoded(0, uniform)
    with Image.open(io.BytesIO(one.data.tobytes())) as image:
        np.testing.assert_allclose(np.asarray(image), fit(opaque.crop((left, top, left + side, top + side)), 8, 3)[0])


@pytest.mark.parametrize("random_crop", [0, -0.1, 1.1])
def test_other_shares_are_refused(tmp_path, random_crop):
    with pytest.raises(UserError, match="random_crop"):
        files_of(tmp_path, encoded(picture()), random_crop=random_crop)
