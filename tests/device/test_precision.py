"""The precision of each part, on simulated machines."""
import pytest
import torch

from fastgan.device import precision
from fastgan.device.precision import choose_precision, cpu_flags, full_precision
from fastgan.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def cpuinfo(monkeypatch, tmp_path):
    """Write Linux's description of the CPU."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "Path", lambda name: path)
    return path


@pytest.fixture
def gpu(monkeypatch):
    """Simulate a torch with one CUDA device, or another number of them; restore its settings."""

    def see(num_devices: int = 1, bf16: bool = True):
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num_devices)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)

    before = torch.get_float32_matmul_precision()
    yield see
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("fpu avx2 avx512f", "fp32"),
        ("fpu avx512_bf16", "bf16"),
        ("amx_bf16 amx_tile", "bf16"),
        ("avx512_bf16_but_not_quite", "fp32"),
    ],
)
def test_bf16_where_the_cpu_has_it(cpuinfo, flags, name):
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: amx_bf16\n")
    chosen = choose_precision(True, CPU)
    assert chosen.name == name
    assert ("neither avx512_bf16 nor AMX" in chosen.describe()) == (name == "fp32")
    assert choose_precision(False, CPU).name == "fp32"
    assert "amp is off" in choose_precision(False, CPU).describe()


def test_flags_of_a_cpu(cpuinfo):
    assert cpu_flags() == set()  # no such file, as outside Linux
    cpuinfo.write_text("processor : 0\nFeatures : fp asimd\n")
    assert cpu_flags() == set()
    cpuinfo.write_text("model name : x\nflags : a b\nbugs : c\n")
    assert cpu_flags() == {"a", "b"}


@pytest.mark.parametrize(
    ("amp", "bf16", "name", "reason"),
    [(True, True, "bf16", "(amp)"), (True, False, "tf32", "Ampere"), (False, True, "tf32", "amp is off")],
)
def test_a_gpu(gpu, amp, bf16, name, reason):
    gpu(bf16=bf16)
    chosen = choose_precision(amp, torch.device("cuda"))
    assert chosen.name == name
    assert reason in chosen.describe()
    assert "TF32" in chosen.describe()


def test_a_gpu_that_is_not_there(gpu, monkeypatch):
    gpu(num_devices=2)
    assert choose_precision(True, torch.device("cuda:1"))
    with pytest.raises(UserError, match="--device cuda:2 does not exist: torch sees 2 CUDA devices"):
        choose_precision(True, torch.device("cuda:2"))
    gpu(num_devices=0)
    with pytest.raises(UserError, match="--device cuda does not exist"):
        choose_precision(False, torch.device("cuda"))
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UserError, match="--device cuda needs CUDA, and this torch .* was built without it"):
        choose_precision(True, torch.device("cuda"))


def test_networks_run_in_the_chosen_precision():
    linear = torch.nn.Linear(4, 4)
    chosen = precision.Precision("cpu", torch.bfloat16, "test")
    with chosen.autocast():
        assert linear(torch.randn(2, 4)).dtype == torch.bfloat16
        assert not torch.is_autocast_cache_enabled()  # cached casts would be those of old weights in a captured step
    with full_precision(chosen).autocast():
        assert linear(torch.randn(2, 4)).dtype == torch.float32
