"""Samples of any shape and dtype as rows of G's shape."""
import numpy as np
import pytest
import torch

from fastgan.data.tensors.rows import Layout, rows_of
from fastgan.errors import UserError


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (5, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("item", "img_shape", "torch_order", "row_shape"),
    [
        ((3, 4, 6), (3, 4, 6), True, (4, 6, 3)),
        ((4, 6, 3), (3, 4, 6), True, (4, 6, 3)),
        ((4, 6), (1, 4, 6), False, (4, 6, 1)),
        ((4, 6, 1), (1, 4, 6), True, (4, 6, 1)),
        ((5, 5, 5), (5, 5, 5), True, (5, 5, 5)),
        ((16,), (1, 16), True, (1, 16)),
        ((24, 1), (24, 1), True, (24, 1)),
        ((24,), (24, 1), True, (24, 1)),
        ((2, 3, 4), (1, 2, 3, 4), True, (1, 2, 3, 4)),
        ((1, 4, 4), (16,), True, (4, 4, 1)),
        ((6, 6), (36,), False, (6, 6, 1)),
        ((5, 6, 7), (210,), True, (210,)),
    ],
)
def test_samples_lie_as_feeds_keep_them(item, img_shape, torch_order, row_shape):
    values = numbers(*item)
    layout = Layout(item, img_shape, torch_order)
    assert layout.fits
    rows, scaling = rows_of(torch.from_numpy(values) if torch_order else values, layout, -1.0, None, "it")
    assert rows.shape == (5, *row_shape)
    assert scaling.is_identity
    # As D gets them, in G's shape
    given = rows.permute(0, 3, 1, 2) if len(row_shape) == 3 else rows
    channels_last = len(img_shape) == 3 and item == (*img_shape[1:], img_shape[0]) and (item != img_shape)
    wanted = values.transpose(0, 3, 1, 2) if channels_last else values
    assert np.array_equal(given.reshape(5, -1), wanted.reshape(5, -1))


def test_equal_axes_are_read_as_the_library_of_the_data_does():
    values = numbers(5, 5, 5)
    first, _ = rows_of(torch.from_numpy(values), Layout((5, 5, 5), (5, 5, 5), True), -1.0, None, "it")
    last, _ = rows_of(values, Layout((5, 5, 5), (5, 5, 5), False), -1.0, None, "it")
    assert np.array_equal(first, values.transpose(0, 2, 3, 1))
    assert np.array_equal(last, values)


@pytest.mark.parametrize("item", [(4, 5), (3, 4, 4), (17,)])
def test_samples_of_another_shape_do_not_fit(item):
    assert not Layout(item, (1, 4, 4), True).fits


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int64", "float16", "float64"])
def test_values_of_any_kind_are_scaled_by_the_range_of_the_set(dtype):
    values = np.array([[0, 100], [1000, 4000]]).astype(dtype)
    rows, scaling = rows_of(values, Layout((2,), (1, 2), False), -1.0, None, "it")
    assert rows[:, 0].tolist() == [pytest.approx([-1, -0.95]), pytest.approx([-0.5, 1])]
    assert tuple(scaling.values) == (0, 4000)


def test_the_range_asked_for_goes_before_that_of_the_set():
    rows, _ = rows_of(np.array([[0, 4000]], np.uint16), Layout((2,), (1, 2), False), -1.0, (0, 2000), "it")
    assert rows.tolist() == [[[-1, 1]]]


def test_bytes_stay_as_they_are_and_flags_are_black_and_white():
    rows, scaling = rows_of(np.array([[0, 7]], np.uint8), Layout((2,), (1, 2), False), -1.0, None, "it")
    assert (rows.dtype, rows.tolist(), scaling) == (torch.uint8, [[[0, 7]]], None)
    flags, _ = rows_of(torch.tensor([[True, False]]), Layout((2,), (1, 2), True), -1.0, None, "it")
    assert flags.tolist() == [[[1, -1]]]


def test_a_set_of_one_value_is_no_division_by_zero():
    rows, _ = rows_of(np.full((3, 2), 300.0), Layout((2,), (1, 2), False), -1.0, None, "it")
    assert rows.unique().tolist() == [-1]


@pytest.mark.parametrize(("values", "message"), [
    (np.array([[0.5, np.nan]]), "it: there are NaN or infinite values"),
    (np.array([[1j, 2]]), "it has values of complex128: give numbers"),
])
def test_what_are_no_finite_numbers_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        rows_of(values, Layout((2,), (1, 2), False), -1.0, None, "it")
