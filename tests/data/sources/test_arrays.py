import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.data import open_source
from fastgan.errors import UserError

GREY = np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)


def read(data, img_channels=3, img_resolution=8) -> np.ndarray:
    return open_source(data).read(img_resolution, img_channels).images.numpy()


def test_arrays_and_tensors_in_every_layout_give_the_same_images():
    planes = np.ascontiguousarray(COLOUR.transpose(0, 3, 1, 2))
    for data in (
        COLOUR,
        planes,
        torch.from_numpy(COLOUR),
        torch.from_numpy(planes),
        COLOUR[::-1][::-1],
        np.asfortranarray(COLOUR),
    ):
        np.testing.assert_array_equal(read(data), COLOUR)
    for data in (GREY, GREY[..., None], GREY[:, None], torch.from_numpy(GREY), torch.from_numpy(GREY)[:, None]):
        np.testing.assert_array_equal(read(data, 1), GREY[..., None])


def test_where_both_layouts_fit_arrays_are_numpys_and_tensors_torchs():
    both = np.zeros((4, 3, 9, 3), np.uint8)
    both[:, 0] = 200  # the first row, or the red plane
    assert open_source(both).native_resolution == 3
    torch.testing.assert_close(
        open_source(torch.from_numpy(both)).read(3, 3).images[0, 0, 0], torch.tensor([200, 0, 0], dtype=torch.uint8)
    )


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([np.float16, np.float32, np.float64]), st.booleans())
def test_floats_come_back_to_the_bit_they_were_made_of(dtype, signed):
    values = np.arange(256).repeat(2).reshape(2, 16, 16)
    floats = (values / 127.5 - 1 if signed else values / 255).astype(dtype)
    np.testing.assert_array_equal(read(floats, 1, 16)[..., 0], values)


def test_bfloat16_tensors_with_gradients_are_read():
    images = torch.rand(3, 1, 8, 8).bfloat16().requires_grad_()
    expected = (images.detach().float() * 255).round().to(torch.uint8)
    torch.testing.assert_close(open_source(images).read(8, 1).images, expected.permute(0, 2, 3, 1))


def test_the_range_is_that_of_the_whole_set():
    floats = np.ones((40, 64, 64, 3), np.float64)  # several blocks
    floats[-1] = -1
    images = read(floats, 3, 64)
    assert (images[:-1] == 255).all()
    assert (images[-1] == 0).all()
    floats[-1] = 0
    assert (read(floats, 3, 64)[-1] == 0).all()


def test_many_blocks_arrive_in_order_and_labels_with_them(tmp_path):
    images = np.arange(3000, dtype=np.uint16).astype(np.uint8)[:, None, None] * np.ones((1, 32, 32), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(3000))
    image_set = open_source(tmp_path / "a.npz").read(32, 1)
    np.testing.assert_array_equal(image_set.images[..., 0].numpy(), images)
    assert image_set.labels.dtype == torch.int64
    assert image_set.labels.tolist() == list(range(3000))


def test_alpha_goes_over_white_and_small_images_are_framed():
    clear = np.zeros((2, 8, 8, 4), np.uint8)
    assert (read(clear) == 255).all()
    framed = read(np.full((2, 28, 28), 9, np.uint8), 1, 32)
    assert framed.sum() == 2 * 9 * 28 * 28


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_floats_that_are_no_numbers_are_refused(bad):
    floats = np.zeros((3, 8, 8), np.float32)
    floats[1, 2, 3] = bad
    with pytest.raises(UserError, match="NaN"):
        read(floats, 1)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 1.5, np.float32), (-2, 0.5, np.float64), (0, 255, np.float32), (0, 4095, np.uint16), (-1024, 3071, np.int16),
     (10**9, 10**9 + 4, np.int32)],
)
def test_other_values_are_scaled_by_the_range_that_the_set_uses(low, high, dtype):
    values = np.zeros((3, 8, 8), dtype)
    values[:] = low
    values[1], values[2, 0] = high, dtype((low + high) / 2)
    source = open_source(values)
    images = source.read(8, 1).images
    assert images[:, 1, 0, 0].tolist() == [0, 255, 0]
    assert images[2, 0, 0, 0] in (127, 128)
    shown = f"{np.dtype(dtype)} values of array from {low:g} to {high:g} become 0 to 255, with 8 bits each; data.range="
    assert source.notes(1) == (f"the {shown}LOW,HIGH sets others",)


def test_small_whole_numbers_stay_as_they_are():
    np.testing.assert_array_equal(read(GREY.astype(np.uint16) // 2, 1)[..., 0], GREY // 2)


def test_the_range_that_is_asked_for_is_used_and_clips():
    values = np.array([0, 1000, 4095, 5000], np.uint16)[:, None, None] * np.ones((1, 8, 8), np.uint16)
    source = open_source(values, (0, 4095))
    assert source.read(8, 1).images[:, 0, 0, 0].tolist() == [0, 62, 255, 255]
    assert source.notes(1) == ("the uint16 values of array from 0 to 4095 become 0 to 255, with 8 bits each",)
    bytes_only = open_source(GREY, (0, 100))
    np.testing.assert_array_equal(bytes_only.read(8, 1).images[..., 0].numpy(), GREY)
    assert bytes_only.notes(1) == ("data.range was not used, as the images have 8 bits already",)


def test_alpha_is_kept_for_four_channels_and_else_laid_over_white_with_a_notice():
    rgba = np.random.default_rng(5).integers(0, 256, (5, 8, 8, 4), np.uint8)
    source = open_source(rgba)
    np.testing.assert_array_equal(source.read(8, 4).images.numpy(), rgba)
    assert source.notes(4) == ()
    clear = np.where(np.arange(4) == 3, 0, rgba).astype(np.uint8)
    assert (read(clear) == 255).all()
    assert source.notes(3) == ("the alpha channel of array is laid over white: --channels 4 keeps it",)
    for images, alpha in ((COLOUR, 255), (GREY, 255)):
        opaque = read(images, 4)
        assert (opaque[..., 3] == alpha).all()
        np.testing.assert_array_equal(opaque[..., 0], images[..., 0] if images.ndim == 4 else images)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, bool, np.complex64, object, "U3"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(UserError, match="convert them to uint8"):
        open_source(np.zeros((3, 8, 8), dtype))


@pytest.mark.parametrize("shape", [(8,), (8, 8), (8, 8, 3), (5, 7, 8, 9), (0, 8, 8), (2, 0, 8), (2, 3, 8, 8, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(UserError, match="shape"):
        open_source(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_tensors_of_other_dtypes_are_refused(dtype):
    with pytest.raises(UserError, match="convert them to uint8"):
        open_source(torch.zeros(3, 1, 8, 8, dtype=dtype))


def test_one_image_is_not_a_set():
    with pytest.raises(UserError, match="at least 2"):
        open_source(GREY[:1])


def test_images_beyond_what_is_safe_are_refused_before_they_are_read():
    with pytest.raises(UserError, match="claims 100000x100000 pixels"):
        open_source(np.broadcast_to(np.uint8(0), (2, 100000, 100000)))


def test_too_small_is_named_with_the_remedy():
    with pytest.raises(
        UserError, match=r"images 0 to 4 of the array: is 8 pixels .* the largest that would work is 10$"
    ):
        read(GREY, 1, 32)


@pytest.mark.parametrize(("img_resolution", "img_channels"), [(8, 2), (0, 1)])
def test_impossible_targets_are_refused(img_resolution, img_channels):
    with pytest.raises(UserError, match="img_channels is 1"):
        open_source(GREY).read(img_resolution, img_channels)


LABELS = [3, 0, 1, 1, 2]


@pytest.mark.parametrize(
    "data",
    [
        (GREY, np.array(LABELS)),
        (GREY, LABELS),
        (GREY, torch.tensor(LABELS)),
        (torch.from_numpy(GREY), np.array(LABELS)),
        (torch.from_numpy(GREY)[:, None], torch.tensor(LABELS, dtype=torch.float32)),
        (GREY, np.array(LABELS, np.uint8)[:, None]),
        {"images": GREY, "labels": LABELS},
        {"x_train": torch.from_numpy(GREY), "y_train": torch.tensor(LABELS), "x_test": None},
        {"arr_0": GREY, "y": np.array(LABELS, np.float64)},
    ],
)
def test_images_with_labels(data):
    source = open_source(data)
    image_set = source.read(8, 1)
    np.testing.assert_array_equal(image_set.images[..., 0].numpy(), GREY)
    assert image_set.labels.dtype == torch.int64
    assert image_set.labels.tolist() == source.labels.tolist() == LABELS


@pytest.mark.parametrize("data", [GREY, (GREY, None), {"images": GREY}, {"data": GREY, "labels": None}])
def test_images_without_labels(data):
    assert open_source(data).labels is None
    assert open_source(data).read(8, 1).labels is None


def test_a_pair_of_images_is_no_set_with_labels():
    assert open_source((COLOUR[0], COLOUR[1])).read(8, 3).labels is None


@pytest.mark.parametrize("labels", [LABELS[:4], [0.5] * 5, list("abcde"), [np.nan] * 5, np.eye(5, dtype=int)])
@pytest.mark.parametrize("images", [GREY, torch.from_numpy(GREY)])
def test_labels_that_do_not_fit_are_refused(images, labels):
    with pytest.raises(UserError, match=r"one integer an image, \[5\], is needed"):
        open_source((images, labels))


def test_negative_labels_are_refused():
    for look in (lambda source: source.labels, lambda source: source.read(8, 1)):
        with pytest.raises(UserError, match="the label -1 is negative"):
            look(open_source((GREY, [-1, 0, 0, 0, 0])))


@pytest.mark.parametrize(
    ("data", "keys"), [({}, "nothing"), ({"pictures": GREY, 3: 1}, "pictures, 3"), ({"images": "folder"}, "images")]
)
def test_dicts_without_images_are_refused(data, keys):
    with pytest.raises(UserError, match=f"data is a dict of {keys}: give an array or tensor of images under 'images'"):
        open_source(data)


def test_the_set_is_a_copy():
    mine = GREY.copy()
    image_set = open_source(mine).read(8, 1)
    mine[:] = 0
    np.testing.assert_array_equal(image_set.images[..., 0].numpy(), GREY)
