"""`fastgan pack` as its users meet it."""
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from fastgan import cli
from fastgan.data import open_source
from fastgan.data.packing.pack import default_decoder

TINY = [
    "--preset",
    "mlp",
    "--no-compile",
    "--no-amp",
    "--steps",
    "4",
    "--batch-size",
    "4",
    "--set",
    "G_hidden=8",
    "--set",
    "D_hidden=8",
    "--set",
    "grid=4",
]


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    """Every test runs in an empty folder that holds photos/ with ten images of 16x16 in two class
    folders.
    """
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        path = Path("photos", "ab"[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def fails(capsys):
    """Runs a command that must fail with one sentence on stderr, and gives the sentence."""

    def run(*arguments, exit_code: int = 2) -> str:
        assert cli.main([*arguments]) == exit_code
        (sentence,) = [
            line for line in capsys.readouterr().err.splitlines() if not line.startswith(("packing ", "reading "))
        ]
        assert sentence.startswith("fastgan: ")
        return sentence

    return run


def test_pack_and_verify_say_what_they_did(capsys):
    assert cli.main(["pack", "photos", "a.fgp"]) == 0
    assert capsys.readouterr().out.startswith("wrote 10 images of 16x16x3 to a.fgp in ")
    assert open_source("a.fgp").class_names == ("a", "b")
    assert cli.main(["pack", "--verify", "a.fgp"]) == 0
    assert capsys.readouterr().out == "a.fgp is intact: 10 images\n"


def test_options(capsys):
    assert cli.main(["pack", "photos", "a.fgp", "--resolution", "8", "--channels", "1", "--workers", "1"]) == 0
    assert "10 images of 8x8x1" in capsys.readouterr().out


def test_what_was_scaled_or_not_read_is_said(capsys):
    Path("photos/notes.txt").write_text("no image")
    Image.fromarray(np.full((16, 16), 4095, np.uint16)).save("photos/a/deep.png")
    assert cli.main(["pack", "photos", "a.fgp", "--range", "0,8190", "--channels", "4"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "1 file in photos not read as images: 1 .txt",
        "1 file of more than 8 bits: values from 0 to 8190 become 0 to 255",
    ]
    assert 128 in open_source("a.fgp").read(16, 4).images[:, 0, 0, 0]


def test_dali_decodes_where_it_is_asked_for_and_says_so(capsys, fails, monkeypatch):
    pytest.importorskip("nvidia.dali")
    assert cli.main(["pack", "photos", "pillow.fgp"]) == 0
    assert "DALI" not in capsys.readouterr().out
    assert cli.main(["pack", "photos", "dali.fgp", "--decoder", "dali"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "decoding with DALI (--decoder pillow decodes with Pillow)"
    assert lines[1].startswith("wrote 10 images")
    assert Path("dali.fgp").read_bytes() == Path("pillow.fgp").read_bytes()  # PNGs that are not resized
    np.save("a.npy", np.zeros((4, 8, 8), np.uint8))
    assert "a.npy holds no image files" in fails("pack", "a.npy", "npy.fgp", "--decoder", "dali")


def test_dali_is_the_default_where_there_is_a_gpu(monkeypatch):
    pytest.importorskip("nvidia.dali")
    assert default_decoder(open_source("photos")) == (
        "dali" if Path("/proc/driver/nvidia/version").exists() else "pillow"
    )
    monkeypatch.setattr(Path, "exists", lambda path: True)
    assert default_decoder(open_source("photos")) == "dali"
    assert default_decoder(open_source(np.zeros((4, 8, 8), np.uint8))) == "pillow"


def test_bad_files_stop_it_or_are_listed(capsys, fails):
    Path("photos/a/0.png").write_bytes(b"no picture")
    assert "photos/a/0.png: is not an image" in fails("pack", "photos", "a.fgp")
    assert cli.main(["pack", "photos", "a.fgp", "--skip-bad"]) == 0
    assert "skipped 1 files:\nphotos/a/0.png: is not an image" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "fastgan pack SRC OUT, or fastgan pack --verify FILE"),
    (["photos"], "fastgan pack SRC OUT"),
    (["photos", "photos"], "photos exists, and fastgan pack never overwrites"),
    (["photos", "."], ". exists, and fastgan pack never overwrites"),
    (["photos", ""], ". exists, and fastgan pack never overwrites"),
    (["nowhere", "a.fgp"], "'nowhere' is neither a path that exists"),
    (["photos", "a.fgp", "--channels", "2"], "argument --channels"),
    (["photos", "a.fgp", "--resolution", "0"], "img_resolution at least 1"),
    (["photos", "a.fgp", "--resolution", "64"], "the largest that would work is 21"),
    (["photos", "a.fgp", "--range", "4095,0"], "'4095,0' is not LOW,HIGH with LOW below HIGH"),
    (["photos", "a.fgp", "--range", "4095"], "argument --range"),
    (["photos", "a.fgp", "--workers", "0"], "0 workers cannot decode"),
    (["photos", "--verify", "a.fgp"], "leave out photos"),
    (["--verify", "nowhere"], "nowhere cannot be read (No such file or directory)"),
    (["--verify", "photos/a/0.png"], "photos/a/0.png is damaged (it "),
])
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(fails, arguments, words):
    assert words in fails("pack", *arguments)
    assert [path.name for path in Path().iterdir()] == ["photos"]


def test_an_altered_file_is_neither_verified_nor_trained_on(fails):
    assert cli.main(["pack", "photos", "a.fgp"]) == 0
    with open("a.fgp", "rb+") as file:
        file.seek(5000)
        file.write(b"\x00\x01\x02")
    for arguments in (["pack", "--verify", "a.fgp"], ["train", *TINY, "--data", "a.fgp", "--out", "run"]):
        assert "a.fgp is damaged (images 0 to 9 were altered)" in fails(*arguments)
    assert not Path("run").exists()


def test_training_on_a_packed_file_is_training_on_what_it_was_made_of():
    assert cli.main(["pack", "photos", "packed.of.any.name"]) == 0
    for run, data in (("run0", "photos"), ("run1", "packed.of.any.name")):
        assert cli.main(["train", *TINY, "--data", data, "--out", run]) == 0
    assert Path("run0/reals.png").read_bytes() == Path("run1/reals.png").read_bytes()
    state = [load_file(next(Path(run).glob("network-snapshot-*"))) for run in ("run0", "run1")]
    for name, values in state[0].items():
        np.testing.assert_array_equal(values, state[1][name])
    shutil.rmtree("photos")
    assert cli.main(["train", "--resume", "run1", "--steps", "6"]) == 0
