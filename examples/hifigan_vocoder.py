"""HiFi-GAN: sound from mel spectrograms, with discriminators of periods and scales.

Kong et al., 2020, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech
Synthesis", arXiv 2010.05646, narrow, on synthesised notes of 16 kHz.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main
from _sound import NUM_MELS, LogMel, notes, save_sounds
from fastgan import Trainer


class Residual(nn.Module):
    """Dilated convolutions, each beside the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=d, padding=d) for d in (1, 3, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = x + conv(F.leaky_relu(x, 0.1))
        return x


def generator(width: int) -> nn.Sequential:
    """LogMel's frames to sound, 128 samples for each."""
    layers = [nn.Conv1d(NUM_MELS, width, 7, padding=3)]
    for factor in (8, 4, 4):
        up = nn.ConvTranspose1d(width, width // 2, 2 * factor, factor, factor // 2)
        layers += [nn.LeakyReLU(0.1), up, Residual(width // 2)]
        width //= 2
    return nn.Sequential(*layers, nn.LeakyReLU(0.1), nn.Conv1d(width, 1, 7, padding=3), nn.Tanh())


class Judges(nn.Module):
    """Every discriminator's feature maps, its logits last: of periods 2, 3, 5 and of scales 1, 2."""

    def __init__(self, width: int):
        super().__init__()
        widths = (1, width, 2 * width, 4 * width)
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.periods = nn.ModuleList(
            nn.ModuleList([*(nn.Conv2d(i, o, (5, 1), (3, 1), (2, 0)) for i, o in pairs), nn.Conv2d(widths[-1], 1, 1)])
            for _ in range(3))  # fmt: skip
        self.scales = nn.ModuleList(
            nn.ModuleList([*(nn.Conv1d(i, o, 15, 4, 7) for i, o in pairs), nn.Conv1d(widths[-1], 1, 3, padding=1)])
            for _ in range(2))  # fmt: skip

    def forward(self, sound: torch.Tensor) -> list[list[torch.Tensor]]:
        seen = [F.pad(sound, (0, -sound.shape[-1] % period)).unflatten(-1, (-1, period)) for period in (2, 3, 5)]
        seen += [sound, F.avg_pool1d(sound, 4, 2, 1)]
        return [self.features(layers, x) for layers, x in zip([*self.periods, *self.scales], seen, strict=True)]

    @staticmethod
    def features(layers: nn.ModuleList, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for layer in layers[:-1]:
            maps.append(x := F.leaky_relu(layer(x), 0.1))
        return [*maps, layers[-1](x)]


def step(nets, batch, draw, update):
    sound, mel = batch["sound"], nets["mel"](batch["sound"])
    fake = nets["G"](mel)
    real_maps, fake_maps = nets["D"](sound), nets["D"](fake.detach())
    d = sum((1 - real[-1]).square().mean() + fake[-1].square().mean()
            for real, fake in zip(real_maps, fake_maps, strict=True))  # fmt: skip
    update("D", d)
    real_maps, fake_maps = nets["D"](sound), nets["D"](fake)
    g = sum((1 - maps[-1]).square().mean() for maps in fake_maps)
    matching = sum(F.l1_loss(ours, theirs.detach()) for fakes, reals in zip(fake_maps, real_maps, strict=True)
                   for ours, theirs in zip(fakes[:-1], reals[:-1], strict=True))  # fmt: skip
    mel_loss = F.l1_loss(nets["mel"](fake), mel)
    update("G", g + 2 * matching + 45 * mel_loss)
    return {"d_loss": d, "g_loss": g, "matching": matching, "mel": mel_loss}


def make(length: int = 8192, width: int = 64, num: int = 1000, batch_size: int = 8, **options):
    torch.manual_seed(0)
    nets = {"G": generator(width), "D": Judges(width // 4), "mel": LogMel()}
    adam = {"lr": 5e-4, "beta1": 0.8, "beta2": 0.99}
    unseen = notes(4, length, seed=1)

    def sample(nets, draw):
        real = unseen.to(nets["mel"].basis.device)
        return torch.cat([real, nets["G"](nets["mel"](real))])

    return Trainer.from_step(step, nets=nets, data={"sound": notes(num, length)}, sample=sample,
                             optimizers={"G": adam, "D": adam}, batch_size=batch_size, **options)  # fmt: skip


def show(trainer, path) -> None:
    """Save mel spectra of unseen notes above what G makes of them, and the sounds."""
    sounds = trainer.sample(seed=0)
    save_sounds(sounds, path)


if __name__ == "__main__":
    main(make, show, steps=2000)
