"""StyleGAN2 (Karras et al., 2020, arXiv 1912.04958) as its PyTorch repositories write it.

Eager, fp32, NCHW, a backward for each loss and penalty.
"""
import torch
import torch.nn.functional as F

from fastgan.bench.peers.parts import Loop, requires_grad, squared_slope
from fastgan.config import Config, PenaltyConfig


class PlainStylegan2(Loop):
    """The StyleGAN2 loop: a step is one update of D and one of G.

    R1 of D follows every D_reg_interval-th step, path length of G every G_reg_interval-th, each in an update of
    its own.
    """

    def __init__(self, config: Config, device: torch.device):
        super().__init__(config, device, _corrections(config.penalty))
        self.mean_length = torch.zeros((), device=device)

    def step(self, real_img: torch.Tensor) -> tuple[float, ...]:
        """Make the update on float real_img [N, C, H, W].

        Returns d_loss, g_loss and the other computed terms, for the log.
        """
        optim, penalty = self.config.optim, self.config.penalty
        logged = [self._update_D(real_img), self._update_G()]
        self.average(min(optim.ema_kimg, self.kimg * optim.ema_rampup))
        if self.num_steps % penalty.D_reg_interval == 0:
            logged.append(self._regularise_D(real_img))
        if self.num_steps % penalty.G_reg_interval == 0:
            logged.append(self._regularise_G())
        self.num_steps += 1
        return tuple(logged)

    def _update_D(self, real_img: torch.Tensor) -> float:
        requires_grad(self.G, False)
        requires_grad(self.D, True)
        fake_img = self.G(self.draw_z())
        loss = F.softplus(-self.D(real_img)).mean() + F.softplus(self.D(fake_img)).mean()
        self.optimizer_D.zero_grad()
        loss.backward()
        self.optimizer_D.step()
        return loss.item()

    def _update_G(self) -> float:
        requires_grad(self.G, True)
        requires_grad(self.D, False)
        loss = F.softplus(-self.D(self.G(self.draw_z()))).mean()
        self.optimizer_G.zero_grad()
        loss.backward()
        self.optimizer_G.step()
        return loss.item()

    def _regularise_D(self, real_img: torch.Tensor) -> float:
        requires_grad(self.G, False)
        requires_grad(self.D, True)
        penalty, img = self.config.penalty, real_img.detach().clone().requires_grad_(True)
        logits = self.D(img)
        squared = squared_slope(logits, img)
        self.optimizer_D.zero_grad()
        # With `0 * logits[0]` every parameter has a gradient
        (penalty.r1_gamma / 2 * squared * penalty.D_reg_interval + 0 * logits[0]).backward()
        self.optimizer_D.step()
        return squared.item()

    def _regularise_G(self) -> float:
        requires_grad(self.G, True)
        requires_grad(self.D, False)
        penalty = self.config.penalty
        num = max(1, int(self.config.run.batch_size * penalty.pl_batch_fraction))
        styles = self.G.mapping(self.draw_z(num))
        img = self.G.synthesis(styles)
        noise = self.draw_normal(*img.shape) / (img.shape[2] * img.shape[3]) ** 0.5
        (gradient,) = torch.autograd.grad((img * noise).sum(), styles, create_graph=True)
        lengths = gradient.pow(2).sum(2).mean(1).sqrt()
        self.mean_length = self.mean_length + penalty.pl_decay * (lengths.detach().mean() - self.mean_length)
        self.optimizer_G.zero_grad()
        loss = penalty.pl_weight * (lengths - self.mean_length).pow(2).mean()
        (loss * penalty.G_reg_interval + 0 * img[0, 0, 0, 0]).backward()
        self.optimizer_G.step()
        return loss.item()


def _corrections(penalty: PenaltyConfig) -> tuple[float, float]:
    """Return the corrections of G's and of D's Adam."""
    return penalty.G_reg_interval / (penalty.G_reg_interval + 1), penalty.D_reg_interval / (penalty.D_reg_interval + 1)
