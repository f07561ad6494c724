import numpy as np
import pytest
from image_files import BY_DALI, BY_PILLOW, encoded, picture

from fastgan.data import open_source
from fastgan.data.dali.decoder import in_dali
from fastgan.data.packing.decoders import Target, in_threads
from fastgan.data.packing.pack import pack

pytest.importorskip("nvidia.dali")


def labelled_set(folder):
    """Make images of one size in two classes, the fourth of which cannot be used."""
    contents = [encoded(picture(32, 32, seed=seed), ("PNG", "JPEG", "GIF")[seed % 3]) for seed in range(150)]
    contents[3] = contents[3][:-30]
    for number, content in enumerate(contents):
        path = folder / ("cat", "dog")[number // 100] / f"{number:03}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return open_source(folder)


def test_the_blocks_are_those_of_the_other_decoders(tmp_path):
    source, target = labelled_set(tmp_path), Target(32, 3)
    for start in (0, target.block_size):
        for block, expected in zip(
            in_dali(num_threads=1)(source, target, start), in_threads(1)(source, target, start), strict=True
        ):
            assert (block.num_members, block.bad) == (expected.num_members, expected.bad)
            np.testing.assert_array_equal(block.images, expected.images)
            np.testing.assert_array_equal(block.labels, expected.labels)


def test_a_set_is_packed_as_the_other_decoders_pack_it(tmp_path):
    source = labelled_set(tmp_path)
    packed = pack(source, tmp_path / "dali.fgpack", img_resolution=32, skip_bad=True, decode=in_dali())
    pack(source, tmp_path / "other.fgpack", img_resolution=32, skip_bad=True)
    assert (packed.shape, len(packed.skipped)) == ((149, 32, 32, 3), 1)
    assert (tmp_path / "dali.fgpack").read_bytes() == (tmp_path / "other.fgpack").read_bytes()


def test_many_blocks_of_few_images_and_large_ones(tmp_path):
    contents = [*BY_DALI.values(), *BY_PILLOW.values()]
    for number, content in enumerate(contents):
        (tmp_path / f"{number:03}.png").write_bytes(content)
    source = open_source(tmp_path)

    class SmallTarget(Target):
        block_size = 5

    for target in (SmallTarget(11, 1), Target(11, 1)):
        blocks = list(in_dali(num_threads=2)(source, target, 0))
        assert [block.num_members for block in blocks][0] == min(target.block_size, len(contents))
        images = np.concatenate([block.images for block in blocks]).astype(int)
        expected = np.concatenate([block.images for block in in_threads(1)(source, target, 0)])
        assert abs(images - expected).max() <= 1
