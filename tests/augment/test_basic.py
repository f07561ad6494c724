"""Plain transforms of the images that D sees."""
import pytest
import torch

from fastgan.augment.basic import instance_noise, mirror, scale_images


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_bytes_become_the_range_of_the_networks(low):
    levels = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    img = scale_images(levels, low)
    assert img.dtype == torch.float32
    assert img.min().item() == low
    assert img.max().item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(
        img.flatten().double(), torch.linspace(low, 1, 256, dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_the_memory_format_stays():
    img = torch.randint(0, 256, (2, 5, 5, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    assert scale_images(img, -1.0).is_contiguous(memory_format=torch.channels_last)


def test_samples_pass_through():
    samples = torch.randn(4, 1)
    assert scale_images(samples, -1.0) is samples


def test_instance_noise():
    img, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(instance_noise(img, noise, torch.tensor(0.0)), img)
    torch.testing.assert_close(instance_noise(img, noise, torch.tensor(0.25)), img + noise / 4)


def test_mirror_turns_about_half_of_the_images_around_and_keeps_dtype_and_format():
    img = torch.randint(0, 256, (400, 3, 4, 5), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    uniform = torch.rand(400, 1, 1, 1)
    mirrored = mirror(img, uniform)
    assert mirrored.dtype == torch.uint8
    assert mirrored.is_contiguous(memory_format=torch.channels_last)
    turned = (uniform < 0.5).flatten()
    assert torch.equal(mirrored[turned], img[turned].flip(3))
    assert torch.equal(mirrored[~turned], img[~turned])
