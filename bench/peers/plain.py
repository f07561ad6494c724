"""The loop of the tutorials: eager, fp32, NCHW, nn.Sigmoid and BCELoss, label tensors.

It computes D's unused gradients in the G step, and calls `.item()` five times a step.
"""
import torch
from torch import nn

from fastgan.bench.peers import networks
from fastgan.config import Config


class PlainLoop:
    """G, D and their optimisers.

    draw_z: gives the noise of a batch; a loop that draws fresh noise for the G step calls it twice
    a step.
    """

    def __init__(self, config: Config, device: torch.device):
        torch.backends.cudnn.benchmark = True  # as the DCGAN example does
        model, optim = config.model, config.optim
        self.G, self.D = (network.to(device) for network in networks.build(model))
        self.criterion = nn.BCELoss()
        betas = (optim.beta1, optim.beta2)
        self.optimizer_G = torch.optim.Adam(self.G.parameters(), lr=optim.lr_G, betas=betas, eps=optim.eps)
        self.optimizer_D = torch.optim.Adam(self.D.parameters(), lr=optim.lr_D, betas=betas, eps=optim.eps)
        self.fresh_fakes = config.loss.fresh_fakes
        self.draw_z = lambda: networks.draw_z(model, config.run.batch_size, device)

    def step(self, real_img: torch.Tensor) -> tuple[float, float, float, float, float]:
        """Make one update of D and of G on float real_img [N, ...].

        Returns (d_loss, g_loss, D(x), D(G(z)) before and after D's update) for the log.
        """
        # D on real images, then on fake ones; the gradients add up.
        self.D.zero_grad()
        output = self.D(real_img)
        label = torch.full(output.shape, 1.0, device=real_img.device)
        loss_real = self.criterion(output, label)
        loss_real.backward()
        score_real = output.mean().item()

        fake_img = self.G(self.draw_z())
        label.fill_(0.0)
        output = self.D(fake_img.detach())
        loss_fake = self.criterion(output, label)
        loss_fake.backward()
        score_fake = output.mean().item()
        self.optimizer_D.step()

        # G, through the D that was just updated.
        self.G.zero_grad()
        label.fill_(1.0)
        if self.fresh_fakes:
            fake_img = self.G(self.draw_z())
        output = self.D(fake_img)
        loss_G = self.criterion(output, label)
        loss_G.backward()
        score_fooled = output.mean().item()
        self.optimizer_G.step()
        return (loss_real + loss_fake).item(), loss_G.item(), score_real, score_fake, score_fooled
