"""The command line as its users meet it: what goes wrong is one sentence, what is stopped goes on."""
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fastgan
from fastgan import cli, models
from fastgan.cli import commands
from fastgan.cli.parser import make_parser
from fastgan.config import OPTIONS, from_dict, is_used, override
from fastgan.config.presets import PRESETS, preset
from fastgan.config.validation import validate
from fastgan.data import open_source
from fastgan.run.feeds import fit_to_data

FAST = ["--no-compile", "--no-amp"]
TINY = ["--preset", "mlp", *FAST, "--batch-size", "8", "--set", "G_hidden=8", "--set", "D_hidden=8", "--set", "grid=4"]
DENSITY = ["--preset", "gaussian1d", *FAST]


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    """Every test runs in an empty folder that holds 48 small images as tiny.npy; runs made here go
    to runs/.
    """
    monkeypatch.chdir(tmp_path)
    np.save("tiny.npy", np.random.default_rng(0).integers(0, 256, (48, 16, 16), dtype=np.uint8))
    return tmp_path


@pytest.fixture
def fails(capsys):
    """Runs a command that must fail with one sentence on stderr, and gives the sentence."""

    def run(*arguments, exit_code: int = 2) -> str:
        assert cli.main([str(argument) for argument in arguments]) == exit_code
        (sentence,) = complaints(capsys.readouterr().err)
        assert sentence.startswith("fastgan: ")
        return sentence

    return run


def complaints(said: str) -> list[str]:
    """The lines of stderr without the bar of the reading."""
    return [line for line in said.splitlines() if not line.startswith("reading ")]


def configured(*arguments):
    return commands.configuration(make_parser().parse_args(["train", *arguments]))


def dry_run(capsys, *arguments) -> dict[str, str]:
    """Option -> value, as the dry run prints them."""
    assert cli.main(["train", "--dry-run", *arguments]) == 0
    return dict(line.partition("  #")[0].split(" = ") for line in capsys.readouterr().out.splitlines())


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_is_configured(name):
    assert configured("--preset", name) == preset(name)


@pytest.mark.parametrize("name", ["dcgan", "cgan-tiny", "ring8", "stylegan2-tiny", "r3gan-tiny"])
def test_a_dry_run_prints_what_the_networks_use_and_makes_no_folder(capsys, name):
    shown = dry_run(capsys, "--preset", name)
    config = preset(name)
    for key, value in shown.items():
        config = override(config, f"{key}={value.strip()}")
    assert {key for key in OPTIONS if is_used(key, config.model.architecture)} == shown.keys()
    source = None if name == "ring8" else open_source(config.data.source)
    assert config == validate(fit_to_data(preset(name), source, models.sizes(config.model)))
    assert not Path("runs").exists()


def test_a_dry_run_completes_the_options_from_the_data(capsys):
    shown = dry_run(capsys, "--preset", "cgan-tiny")
    assert (shown["model.c_dim"].strip(), shown["model.img_channels"].strip()) == ("10", "1")


def test_a_dry_run_refuses_what_the_run_would_refuse(capsys):
    assert cli.main(["train", "--dry-run", "--data", "nowhere/"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_every_preset_is_listed_in_a_line(capsys):
    assert cli.main(["train", "--list-presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)
    assert "wasserstein n_critic=5 gp_weight=10; adam lr=0.0002; batch 64; 32000 kimg" in lines[8]


LENGTH_FLAGS = {"--kimg", "--epochs", "--steps"}
FLAGS = {
    "--kimg": ("run.kimg", st.floats(0.001, 1e6)),
    "--epochs": ("run.epochs", st.floats(0.001, 1e6)),
    "--steps": ("run.steps", st.integers(1, 10**9)),
    "--batch-size": ("run.batch_size", st.integers(1, 4096)),
    "--seed": ("run.seed", st.integers(0, 2**32 - 1)),
    "--tick": ("run.tick_kimg", st.floats(0.001, 1e6)),
    "--resolution": ("model.img_resolution", st.sampled_from([16, 32, 64, 128])),
    "--data": ("data.source", st.sampled_from(["mnist", "photos/", "ü b"])),
    "--device": ("run.device", st.sampled_from(["cpu", "cuda", "cuda:3"])),
}


@settings(deadline=None, max_examples=50)
@given(
    st.data(),
    st.sets(st.sampled_from(sorted(FLAGS.keys() - LENGTH_FLAGS))),
    st.sampled_from([None, *sorted(LENGTH_FLAGS)]),
)
def test_flags_override_set_and_set_overrides_the_preset(data, flags, length):
    arguments, expected = [], {}
    for flag in sorted(flags | ({length} if length else set())):
        key, values = FLAGS[flag]
        expected[key] = data.draw(values)
        arguments += [flag, str(expected[key]), "--set", f"{key}={data.draw(values)}"]
    options = make_parser().parse_args(["train", "--set", "optim.lr_G=0.5", "--dry-run", *arguments])
    config = commands.configuration(options)
    for key, value in expected.items():
        section, name = key.split(".")
        assert getattr(getattr(config, section), name) == value
    assert config.optim.lr_G == 0.5
    assert config.optim.lr_D == preset("dcgan").optim.lr_D
    assert validate(config) == config


def test_switches():
    assert configured().run.amp
    assert not configured("--no-amp").run.amp
    assert [configured(*flags).run.deterministic for flags in ((), ("--deterministic",))] == [False, True]
    assert not configured("--no-compile").run.compile
    assert configured("--set", "run.amp=no", "--amp").run.amp
    assert not configured().data.skip_bad
    assert configured("--skip-bad", "--tensorboard").run.tensorboard


def test_a_length_replaces_the_presets():
    assert preset("mlp").run.epochs == 5
    assert configured("--preset", "mlp", "--kimg", "7").run.epochs is None
    assert configured("--preset", "mlp", "--set", "kimg=7").run.kimg == 7
    assert configured("--preset", "mlp", "--set", "kimg=7", "--steps", "3").run.kimg is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND; see fastgan --help"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "--kimgs", "3"], "unrecognized arguments: --kimgs"),
        (["train", "--kimg", "many"], "argument --kimg: invalid float value: 'many'; see fastgan train --help"),
        (["train", "--steps", "1.5"], "argument --steps"),
        (["sample"], "required: SNAPSHOT"),
        (["train", "--preset", "dcgna"], "no preset 'dcgna'; the nearest is 'dcgan'"),
        (["train", "--set", "modl.ngf=3"], "no option 'modl.ngf'; the nearest is 'model.ngf'"),
        (["train", "--set", "ngf"], "write KEY=VALUE"),
        (["train", "--set", "ngf=x"], "--set model.ngf takes a whole number, not 'x'"),
        (["train", "--set", "name=adam"], "'name' is ambiguous"),
        (["train", "--kimg", "1", "--steps", "2"], "exactly one of --kimg, --epochs and --steps"),
        (["train", "--kimg", "0"], "run.kimg is 0.0"),
        (["train", "--kimg", "inf"], "run.kimg is inf"),
        (["train", "--batch-size", "-1"], "run.batch_size is -1"),
        (["train", "--seed", "-1"], "run.seed is -1"),
        (["train", "--resolution", "48"], "--resolution 48 is not one of dcgan's: 16, 32, 64, 128"),
        (["train", "--data", ""], "--data is empty"),
        (["train", "--device", "gpu"], "--device 'gpu' is not supported"),
        (["train", "--set", "architecture=custom"], "this run trains your own networks: continue it from Python"),
        (["train", "--preset", "gaussian1d", "--epochs", "3"], "--epochs needs a finite data set"),
        (
            ["train", "--preset", "gaussian1d", "--data", "mnist"],
            "gaussian1d learns the numbers of a Gaussian and takes no --data mnist",
        ),
        (["train", "--preset", "gaussian1d", "--batch-size", "64"], "--batch-size 64 is not a multiple of 100"),
        (["train", "--preset", "mlp", "--set", "data.source=gaussian"], "the data 'gaussian' are numbers, not images"),
        (["train", "--resume", "nowhere"], "nowhere is not a run folder"),
        (["train", "--resume", ""], "is not a run folder"),
        (["train", "--resume", "nowhere", "--out", "x"], "leave out --out and --preset"),
        (["train", "--resume", "nowhere", "--preset", "mlp"], "leave out --out and --preset"),
        (["sample", "nowhere", "--num", "0"], "--num is 0"),
        (["sample", "nowhere", "--seed", "-1"], "--seed is -1"),
        (["sample", "nowhere"], "there is no file nowhere"),
        (["sample", "."], "holds no network-snapshot"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(fails, working_folder, arguments, words):
    assert words in fails(*arguments)
    assert [path.name for path in working_folder.iterdir()] == ["tiny.npy"]


# --- data, device and folder ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere"], "'nowhere' is neither a path that exists nor the name of a known set"),
        (["--data", "fashion-mnist10k"], "did you mean 'fashion-mnist-10k'?"),
        (["--data", "notes.txt"], "notes.txt has an unknown format"),
        (["--data", "empty"], "no images in empty"),
        (["--data", "photos"], "photos/b.png: "),
        (["--data", "tiny.npy", "--batch-size", "49"], "batch_size 49 does not fit a set of 48 images"),
        (["--data", "tiny.npy", "--resolution", "64"], "too small for img_resolution 64"),
        (["--data", "tiny.npy", "--out", "notes.txt"], "notes.txt cannot be a folder"),
        (["--data", "tiny.npy", "--out", "notes.txt/run"], "cannot be a folder"),
    ],
)
def test_what_cannot_be_trained_leaves_no_run_folder(fails, photos, arguments, words):
    Path("notes.txt").write_text("not an image")
    Path("empty").mkdir()
    assert words in fails("train", *TINY, "--steps", "1", *arguments)
    assert not Path("runs").exists()


@pytest.fixture
def photos():
    """A folder of ten images, of which b.png is truncated."""
    Path("photos").mkdir()
    for name in "abcdefghij":
        Image.fromarray(np.random.default_rng(ord(name)).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(
            f"photos/{name}.png"
        )
    truncated = Path("photos/b.png")
    truncated.write_bytes(truncated.read_bytes()[:200])


def test_bad_images_are_left_out_and_listed_where_that_is_wanted(photos, capsys):
    assert cli.main(["train", *TINY, "--steps", "1", "--data", "photos", "--skip-bad", "--out", "run"]) == 0
    assert "skipped 1 files:\nphotos/b.png: " in capsys.readouterr().out
    assert "photos/b.png" in Path("run/log.txt").read_text()


@pytest.mark.parametrize("device", ["cuda", "cuda:99"])
def test_a_gpu_that_is_not_there(fails, monkeypatch, device):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert f"--device {device} " in fails("train", *TINY, "--data", "tiny.npy", "--device", device)
    assert not Path("runs").exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder in which nobody can write")
def test_a_disk_that_refuses(fails):
    assert "cannot create the folder /proc/run" in fails(
        "train", *TINY, "--data", "tiny.npy", "--out", "/proc/run", exit_code=1
    )


def test_a_training_that_diverges(fails):
    sentence = fails(
        "train",
        *TINY,
        "--data",
        "tiny.npy",
        "--steps",
        "4",
        "--set",
        "lr_D=1e30",
        "--set",
        "lr_G=1e30",
        "--out",
        "run",
        exit_code=1,
    )
    assert "became NaN or infinite" in sentence
    assert "the last good snapshot is none yet" in sentence


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_a_longer_one_and_its_samples(capsys, fails):
    assert cli.main(["train", *TINY, "--data", "tiny.npy", "--steps", "2"]) == 0
    run = "runs/00000-mlp-tiny.npy"
    assert f"done: {run}" in capsys.readouterr().out
    assert from_dict(json.loads(Path(run, "training_options.json").read_text())).run.steps == 2

    before = {path.name: path.read_bytes() for path in Path(run).iterdir()}
    assert "already holds a run; continue it with --resume" in fails("train", *TINY, "--data", "tiny.npy", "--out", run)
    assert before == {path.name: path.read_bytes() for path in Path(run).iterdir()}

    assert cli.main(["train", "--resume", run, "--kimg", "0.032"]) == 0
    assert "resuming from" in capsys.readouterr().out
    assert [json.loads(line)["nimg"] for line in Path(run, "stats.jsonl").read_text().splitlines()][-1] == 32

    for snapshot in (run, f"{run}/network-snapshot-000000.safetensors"):
        assert cli.main(["sample", snapshot, "-n", "6", "--out", "out.png"]) == 0
        assert "wrote 6 images to out.png" in capsys.readouterr().out
        with Image.open("out.png") as picture:
            assert picture.size == (96, 64)  # 3 by 2, 16 px enlarged to 32
    assert "give out.jpg the suffix .png" in fails("sample", run, "--out", "out.jpg")

    Path(run, "network-snapshot-000000.safetensors").write_bytes(b"\0" * 100)
    assert "network-snapshot-000000.safetensors is damaged" in fails("sample", run)
    Path(run, "training_options.json").write_text("{")
    assert "training_options.json is damaged" in fails("train", "--resume", run)


def test_a_density_ends_in_pictures(capsys):
    assert cli.main(["train", *DENSITY, "--steps", "2", "--out", "run"]) == 0
    assert {"histogram.png", "moments.png"} <= {path.name for path in Path("run").iterdir()}
    assert cli.main(["sample", "run", "--out", "out.png"]) == 0
    assert "wrote a histogram of 64 samples to out.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "name"),
    [("mnist", "mnist"), ("photos/", "photos"), ("a b/c.zip", "c.zip"), ("photos/..", "here"), (".", "here")],
)
def test_a_run_is_called_by_its_data(monkeypatch, data, name):
    Path("here").mkdir()
    monkeypatch.chdir("here")
    assert commands.run_name(configured("--data", data)) == f"dcgan-{name}"


# --- the program as a process -----------------------------------------------------------------------------------------


PROGRAM = [sys.executable, "-m", "fastgan"]
# The same fastgan from any folder, and one thread, which is best for networks as small as these.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(fastgan.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
# as a user's shell has it: what is printed into a pipe is kept until it is flushed
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)


@contextlib.contextmanager
def started(*arguments):
    """A fastgan process, ended with the block."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_a_tick(process: subprocess.Popen, run: Path) -> None:
    stats = run / "stats.jsonl"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not (stats.exists() and stats.stat().st_size):
        time.sleep(0.02)


LONG = [*TINY, "--data", "tiny.npy", "--kimg", "100000", "--tick", "0.4"]


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_run_and_says_how_to_go_on(working_folder, capsys, number, exit_code):
    run = working_folder / "my run"
    with started("train", *LONG, "--out", str(run)) as process:
        wait_for_a_tick(process, run)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, complaints(err)) == (exit_code, [])
    command = out.splitlines()[-1].partition("continue with:")[2]
    words = shlex.split(command)
    assert words == ["fastgan", "train", "--resume", str(run)]
    nimg = json.loads((run / "stats.jsonl").read_text().splitlines()[-1])["nimg"]
    assert cli.main([*words[1:], "--kimg", str((nimg + 16) / 1000)]) == 0
    assert json.loads((run / "stats.jsonl").read_text().splitlines()[-1])["nimg"] == nimg + 16
    assert complaints(capsys.readouterr().err) == []


class Trainer:
    """Stands for the one that runs; counts how often it is asked to stop."""

    stopped = 0

    def request_stop(self):
        self.stopped += 1


def test_a_second_signal_ends_at_once_and_the_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    trainer = Trainer()

    def receive_two():
        with commands._stopping_on_signals(trainer) as received:
            os.kill(os.getpid(), signal.SIGINT)
            assert (trainer.stopped, received) == (1, [signal.SIGINT])
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        receive_two()
    assert caught.value.code == 143
    assert trainer.stopped == 1
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_a_signal_before_the_training_is_no_traceback(capsys, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "configuration", interrupted)
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().err == "fastgan: interrupted\n"


def test_a_reader_that_goes_away_leaves_no_traceback():
    with started("train", *LONG) as process:
        assert process.stdout.readline().startswith("precision:")
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert complaints(process.stderr.read()) == []


def test_a_dry_run_into_a_closed_pipe_leaves_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROGRAM, "train", "--dry-run"], stdout=writer, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_version_and_the_machine(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"fastgan {fastgan.__version__}\n"
    assert cli.main(["info"]) == 0
    assert fastgan.__version__ in capsys.readouterr().out
    assert cli.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fastgan"] == fastgan.__version__


def test_python_m_fastgan_is_the_same_program():
    done = subprocess.run([*PROGRAM, "train", "--kimg", "-1"], capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fastgan: run.kimg is -1.0; it must be above 0 and finite\n"
