"""Faults planted one at a time, to see that the fast tests find them: `python tests/planted_faults.py [NUMBER ...]`.

Each is one line of the package changed in a copy of the checkout. The tests of the same folder run
first, then all others; the first failing test ends them. docs/testing.md has what was found.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COPIED = (
    "fastgan", "kernels", "csrc", "bench", "tests", "docs",
    "README.md", "pyproject.toml", "CMakeLists.txt", "LICENSE", "NOTICE",
)  # fmt: skip
SECONDS = 900  # for all tests of one fault


class Fault(NamedTuple):
    """A line of a file under fastgan/, and the line that a mistake would make of it."""

    kind: str
    file: str
    right: str
    wrong: str


FAULTS = (
    Fault("the margin of the hinge has the wrong sign", "gan/losses.py",
          "F.relu(margin - logits)", "F.relu(margin + logits)"),
    Fault("D maximises the Wasserstein loss", "gan/losses.py",
          "(1.0 - 2.0 * target) * logits", "(2.0 * target - 1.0) * logits"),
    Fault("the relativistic loss compares in the wrong direction", "gan/losses.py",
          "F.softplus(others - logits)", "F.softplus(logits - others)"),
    Fault("the gradient penalty pulls the norm to -1", "gan/penalties.py",
          "+ 1e-12).sqrt() - 1).square()", "+ 1e-12).sqrt() + 1).square()"),
    Fault("the gradient penalty is taken at real images", "gan/penalties.py",
          "torch.lerp(real_img, fake_img.to(real_img.dtype), uniform)", "real_img"),
    Fault("R1 and R2 without the factor 1/2", "gan/objectives.py", "gamma / 2 * each", "gamma * each"),
    Fault("G uses the learning rate of D", "gan/train_state.py",
          "optim.lr_G, correction_G, average)", "optim.lr_D, correction_G, average)"),
    Fault("lazy R1 is not scaled by its interval", "gan/step.py",
          "state.penalty.D_reg_interval * penalty, state.optimizer_D", "penalty, state.optimizer_D"),
    Fault("gradients of parts of a batch are summed, not averaged", "gan/step.py",
          "torch._foreach_div_(total, state.num_parts)", "pass"),
    Fault("the clock counts batches instead of images", "gan/step.py",
          "state.nimg.add_(num_images)", "state.nimg.add_(1)"),
    Fault("D's fakes keep their graph", "gan/step.py", "fake_img.detach()", "fake_img"),
    Fault("the decay of the moving average is swapped", "ops/adam_ema.py",
          "    torch._foreach_mul_(average, beta)", "    torch._foreach_mul_(average, 1 - beta)"),
    Fault("buffers of the moving average are not updated", "gan/optim/average.py",
          "torch._foreach_copy_(*map(list, zip(*self.copied_buffers, strict=True)))", "pass"),
    Fault("Adam's second moment decays with beta1", "ops/adam_ema.py",
          "torch._foreach_mul_(exp_avg_sq, beta2)", "torch._foreach_mul_(exp_avg_sq, beta1)"),
    Fault("a cosine schedule rises first", "gan/schedules.py", "0.5 - 0.5 * torch.cos", "0.5 + 0.5 * torch.cos"),
    Fault("the half-life of the average in images, not kimg", "gan/schedules.py", "(1000 * kimg)", "(kimg)"),
    Fault("statistics are divided by all steps", "gan/statistics.py",
          "[self._one if name in values else self._zero", "[self._one"),
    Fault("a batch starts one image late", "data/feeds/order.py",
          "[start:start + end - nimg]", "[start + 1:start + 1 + end - nimg]"),
    Fault("every epoch has the same order", "data/feeds/order.py", 'f"{seed} {epoch}"', 'f"{seed}"'),
    Fault("images are mirrored upside down", "augment/basic.py", "img.flip(3)", "img.flip(2)"),
    Fault("white is slightly above 1", "augment/basic.py", "/ 255.0", "/ 254.0"),
    Fault("a transposed convolution has the wrong stride", "ops/deconv/implementations.py",
          "F.conv_transpose2d(small, weight, bias, 2, 1, output_padding)",
          "F.conv_transpose2d(small, weight, bias, 1, 1, output_padding)"),
    Fault("a weight gradient is lost", "ops/conv.py",
          "dweight = _weight(dsmall, big", "dweight = 0 * _weight(dsmall, big"),
    Fault("the spectral norm uses another vector", "nn/norms.py",
          "torch.dot(u, image_of_v)", "torch.dot(self.u, image_of_v)"),
    Fault("the labels of D and G are swapped", "run/build.py",
          "d_labels, g_labels = (None, None)", "g_labels, d_labels = (None, None)"),
    Fault("the parity check accepts everything", "engine/parity.py", "FACTOR * tolerance + STATISTICS_FLOOR", "1e9"),
    Fault("launches start anywhere in a period", "engine/phase_schedule.py", "size if step % grid == 0 and", "size if"),
    Fault("a resumed run draws other numbers", "run/checkpoint.py",
          'generator.set_state(tensors["random/run"])', "pass"),
    Fault("the Frechet distance without the covariance of the fakes", "metrics/frechet.py",
          "covariance.trace() - 2", "0 - 2"),
    Fault("the kernel of KID is quadratic", "metrics/kid.py", ".add_(1).pow_(3)", ".add_(1).pow_(2)"),
)  # fmt: skip


def main() -> int:
    """Plant the faults that were asked for, all by default; return 1 if one was not found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", type=int, help="of faults, from 1")
    chosen = parser.parse_args().numbers or range(1, len(FAULTS) + 1)
    missed = 0
    for number in chosen:
        fault = FAULTS[number - 1]
        found_by = plant(fault)
        missed += found_by is None
        print(f"| {number} | {fault.kind} | fastgan/{fault.file} | {found_by or '**not found**'} |", flush=True)
    return int(missed > 0)


def plant(fault: Fault) -> str | None:
    """Return the name of the first test that fails with the fault, or None."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
        path = copy / "fastgan" / fault.file
        text = path.read_text(encoding="utf-8")
        assert text.count(fault.right) == 1, f"{fault.file} has {text.count(fault.right)} times {fault.right!r}"
        path.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
        mirror = copy / "tests" / Path(fault.file).parent
        return _first_failure(copy, [str(mirror)]) or _first_failure(copy, ["tests", f"--ignore={mirror}"])


def _first_failure(copy: Path, arguments: list[str]) -> str | None:
    """Run the fast tests of a copy, and return the first failing one."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--benchmark-disable", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS)
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, flags=re.MULTILINE)
    return failed[1] if failed else None


if __name__ == "__main__":
    sys.exit(main())
