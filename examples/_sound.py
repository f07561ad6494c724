"""Sound for the examples: synthesised notes, log mel spectra, pictures and WAV files of them."""
import math
import wave
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from _common import save_images

RATE, HOP, WINDOW, NUM_MELS = 16_000, 128, 512, 40


def notes(num: int, length: int, seed: int = 0) -> torch.Tensor:
    """Return float32 [num, 1, length]: sung notes, of falling harmonics, with vibrato and breath."""
    generator = torch.Generator().manual_seed(seed)
    pitch, vibrato, tilt, phase = torch.rand(4, num, 1, 1, generator=generator)
    time, order = torch.arange(length) / RATE, torch.arange(1, 13)[:, None]
    angle = 2 * math.pi * (110 * 4**pitch * time + vibrato * torch.sin(2 * math.pi * (5 * time + phase)))
    sound = (torch.sin(order * angle) / order ** (1 + tilt)).sum(1, keepdim=True)
    breath = torch.randn(num, 1, length, generator=generator) * 0.02
    return (sound * (0.6 + 0.4 * torch.sin(2 * math.pi * (3 * time + phase))) + breath).clamp(-2.5, 2.5) / 2.5


class LogMel(nn.Module):
    """Log mel spectrum of [N, 1, L] as [N, NUM_MELS, L / HOP], in real numbers: they fuse."""

    def __init__(self):
        super().__init__()
        half, angle = WINDOW // 2 + 1, 2 * math.pi * torch.arange(WINDOW) / WINDOW
        waves = torch.arange(half)[:, None] * angle
        self.register_buffer("basis", (torch.cat([waves.cos(), waves.sin()]) * torch.hann_window(WINDOW))[:, None])
        mels = torch.linspace(0, 2595 * math.log10(1 + RATE / 1400), NUM_MELS + 2)
        edges = 700 * (10 ** (mels / 2595) - 1)
        rise = (torch.linspace(0, RATE / 2, half) - edges[:-1, None]) / edges.diff()[:, None]
        self.register_buffer("filters", torch.minimum(rise[:-1], 1 - rise[1:]).clamp(min=0))

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        margin = (WINDOW - HOP) // 2
        real, imaginary = F.conv1d(F.pad(sound, (margin, margin)), self.basis, stride=HOP).chunk(2, 1)
        return (self.filters @ (real.square() + imaginary.square() + 1e-9).sqrt() + 1e-5).log()


def save_sounds(sounds: torch.Tensor, path: Path) -> None:
    """Save log mel spectra of sounds [N, 1, L] in [-1, 1], and the sounds beside them as WAV."""
    spectra = LogMel()(sounds)
    low, high = spectra.amin(), spectra.amax()
    tall = spectra.flip(1).repeat_interleave(2, 1).repeat_interleave(2, 2)[:, None]
    save_images((tall - low) / (high - low) * 2 - 1, path, columns=len(sounds) // 2)
    with wave.open(str(path.with_suffix(".wav")), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sounds.flatten().clamp(-1, 1) * 32767).short().numpy().tobytes())
