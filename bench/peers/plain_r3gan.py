"""R3GAN (Huang et al., 2025, arXiv 2501.05441) as eager PyTorch: fp32, NCHW.

R1 and R2 are in every update of D.
"""
import torch
import torch.nn.functional as F

from fastgan.bench.peers.parts import Loop, cosine, requires_grad, squared_slope


class PlainR3gan(Loop):
    """The R3GAN loop: a step is one update of D and one of G, each on real images of its own.

    Learning rates, beta2, gammas and half-life follow half a cosine.
    """

    def step(self, real_img: torch.Tensor) -> tuple[float, float, float, float]:
        """Make the update on float real_img [2N, C, H, W], one half for D and one for G.

        Returns (d_loss, R1, R2, g_loss) for the log.
        """
        img_of_D, img_of_G = real_img.chunk(2)
        self._follow_schedules()
        logged = *self._update_D(img_of_D), self._update_G(img_of_G)
        self.average(self._at(self.config.optim.ema_start_kimg, self.config.optim.ema_kimg))
        self.num_steps += 1
        return logged

    def _update_D(self, real_img: torch.Tensor) -> tuple[float, float, float]:
        requires_grad(self.G, False)
        requires_grad(self.D, True)
        real_img = real_img.detach().requires_grad_(True)
        fake_img = self.G(self.draw_z()).detach().requires_grad_(True)
        real_logits, fake_logits = self.D(real_img), self.D(fake_img)
        r1, r2 = squared_slope(real_logits, real_img), squared_slope(fake_logits, fake_img)
        penalty, end = self.config.penalty, self.config.penalty.gamma_end
        loss = F.softplus(fake_logits - real_logits).mean()
        gamma_1, gamma_2 = (self._at(gamma, gamma * end) for gamma in (penalty.r1_gamma, penalty.r2_gamma))
        self.optimizer_D.zero_grad()
        (loss + gamma_1 / 2 * r1 + gamma_2 / 2 * r2).backward()
        self.optimizer_D.step()
        return loss.item(), r1.item(), r2.item()

    def _update_G(self, real_img: torch.Tensor) -> float:
        requires_grad(self.G, True)
        requires_grad(self.D, False)
        loss = F.softplus(self.D(real_img) - self.D(self.G(self.draw_z()))).mean()
        self.optimizer_G.zero_grad()
        loss.backward()
        self.optimizer_G.step()
        return loss.item()

    def _follow_schedules(self) -> None:
        optim = self.config.optim
        for optimizer, lr in ((self.optimizer_G, optim.lr_G), (self.optimizer_D, optim.lr_D)):
            for group in optimizer.param_groups:
                group["lr"] = self._at(lr, lr * optim.lr_end)
                group["betas"] = optim.beta1, self._at(optim.beta2, optim.beta2_end)

    def _at(self, start: float, end: float) -> float:
        return cosine(start, end, self.kimg, self.config.optim.decay_kimg)
