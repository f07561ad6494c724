"""Maps, against products of 3x3 matrices."""
import math

import torch

from fastgan.augment.affine import identity_map


def matrix(affine):
    """Return the map of image 0 as a 3x3 matrix."""
    xx, xy, yx, yy, x0, y0 = (value[0].item() for value in affine)
    return torch.tensor([[xx, xy, x0], [yx, yy, y0], [0, 0, 1]])


def numbers(*values):
    return [torch.tensor([float(value)]) for value in values]


def test_the_identity_has_a_map_for_each_image():
    affine = identity_map(5, torch.device("cpu"))
    assert all(value.shape == (5,) for value in affine)
    assert torch.equal(matrix(affine), torch.eye(3))


def test_transforms_one_after_the_other_are_the_inverse_of_their_product():
    angle = 0.7
    affine = identity_map(1, torch.device("cpu"))
    affine = (
        affine.scaled(*numbers(2.0, 0.5))
        .turned(*numbers(math.cos(angle), math.sin(angle)))
        .moved(*numbers(3, -4))
        .scaled(*numbers(-1, 1))
    )
    scale, mirror = torch.diag(torch.tensor([2.0, 0.5, 1.0])), torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    # The y axis points downwards
    clockwise = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    move = torch.tensor([[1.0, 0, 3], [0, 1, -4], [0, 0, 1]])
    torch.testing.assert_close(matrix(affine), torch.linalg.inv(mirror @ move @ clockwise @ scale))
