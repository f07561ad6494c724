import io
import zipfile

import pytest
from PIL import Image

from fastgan.data import images, open_source
from fastgan.errors import UserError


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), value).save(file, "PNG")
    return file.getvalue()


def zipped(path, members: dict[str, bytes], compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_with_class_folders(tmp_path):
    members = {
        "set/b/1.png": png(3),
        "set/a/2.png": png(2),
        "set/a/1.png": png(1),
        "__MACOSX/a/._1.png": b"",
        "read.me": b"",
    }
    path = zipped(tmp_path / "a.zip", members, zipfile.ZIP_DEFLATED)
    source = open_source(path)
    assert (source.name, source.num_images, source.native_resolution) == ("a.zip", 3, 8)
    image_set = source.read(8, 1)
    assert image_set.images[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert image_set.labels.tolist() == [0, 0, 1]
    assert image_set.class_names == ("a", "b")


@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:\\evil.png", "a\\..\\..\\evil.png", "..\\x"]
)
def test_members_that_point_outside_refuse_the_whole_zip(tmp_path, name):
    path = zipped(tmp_path / "a.zip", {"1.png": png(1), "2.png": png(2), name: png(3)})
    with pytest.raises(UserError, match=r"a\.zip is refused: its member .* points outside"):
        open_source(path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", {"1.png": png(1), "2.png": png(2)})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.write_bytes(content)
    with pytest.raises(UserError, match="is encrypted"):
        open_source(path)


def test_a_truncated_zip_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", {"1.png": png(1), "2.png": png(2)})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="not a whole zip"):
        open_source(path)


def test_a_member_with_a_wrong_checksum_is_bad(tmp_path):
    path = zipped(tmp_path / "a.zip", {f"{value}.png": png(value) for value in range(3)})
    content = bytearray(path.read_bytes())
    content[content.index(png(1)) + 20] ^= 255
    path.write_bytes(content)
    source = open_source(path)
    with pytest.raises(UserError, match=r"1\.png in .*a\.zip: cannot be unpacked"):
        source.read(8, 1)
    assert source.read(8, 1, skip_bad=True).images[:, 0, 0, 0].tolist() == [0, 2]


def test_an_absurd_declared_size_is_not_unpacked(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", {"1.png": png(1), "2.png": png(2), "3.png": bytes(5000)}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(images.Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"3\.png in .* claims 5000 bytes"):
        open_source(path).read(8, 1)


def test_an_empty_zip_has_no_images(tmp_path):
    with pytest.raises(UserError, match="no images in"):
        open_source(zipped(tmp_path / "a.zip", {}))
