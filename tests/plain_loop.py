"""A GAN's training as a tutorial writes it: loops, backward(), torch.optim and `if`s.

The phases of the step are compared with it.

Losses and penalties are written out here from the papers, in passes of their own, and nothing is
taken from fastgan but the random numbers and the augmentations, which have tests of their own.
"""
import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.augment.ada import GROUPS, ada_augment
from fastgan.augment.diff_augment import diff_augment
from fastgan.config import Config, replace
from fastgan.data.feeds.resident import ResidentFeed
from fastgan.device.precision import Precision
from fastgan.engine.engine import Engine
from fastgan.gan.phases import PHASES
from fastgan.gan.train_state import TrainState, make_train_state
from fastgan.nn.pair import inspect_pair
from fastgan.run import build

CPU = torch.device("cpu")
FP32 = Precision("cpu", torch.float32, "test")
Z_DIM, C_DIM, RESOLUTION, BATCH_SIZE, NUM_IMAGES = 5, 3, 16, 4, 44

# --- tiny networks, smooth, so that rounding errors stay small ------------------------------------


class G(nn.Module):
    """A generator, [N, 5] -> [N, 1, 16, 16]. classes: none | numbers | one_hot."""

    def __init__(self, classes: str = "none", norm: bool = False):
        super().__init__()
        self.classes = classes
        self.embed = {
            "none": lambda: None,
            "numbers": lambda: nn.Embedding(C_DIM, 3),
            "one_hot": lambda: nn.Linear(C_DIM, 3),
        }[classes]()
        self.first = nn.Linear(Z_DIM + (0 if self.embed is None else 3), 4 * 4 * 4)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.up, self.last = nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.ConvTranspose2d(3, 1, 4, 2, 1)

    def forward(self, z, c=None):
        if self.embed is not None:
            z = torch.cat([z, self.embed(c)], 1)
        x = self.norm(self.first(z).view(-1, 4, 4, 4))
        return torch.tanh(self.last(F.silu(self.up(F.silu(x)))))


class StyleG(nn.Module):
    """A G in two parts: mapping to styles [N, 2, 4], and synthesis from them."""

    def __init__(self, classes: str = "none"):
        super().__init__()
        self.embed = nn.Embedding(C_DIM, 3) if classes == "numbers" else None
        self.style = nn.Linear(Z_DIM + (3 if self.embed else 0), 8)
        self.coarse, self.fine, self.last = nn.Linear(4, 48), nn.Linear(4, 3), nn.ConvTranspose2d(3, 1, 4, 4)

    def mapping(self, z, c=None):
        z = z if self.embed is None else torch.cat([z, self.embed(c)], 1)
        return F.silu(self.style(z)).view(-1, 2, 4)

    def synthesis(self, ws):
        x = self.coarse(ws[:, 0]).view(-1, 3, 4, 4) * (1 + self.fine(ws[:, 1]))[:, :, None, None]
        return torch.tanh(self.last(F.silu(x)))

    def forward(self, z, c=None):
        return self.synthesis(self.mapping(z, c))


class D(nn.Module):
    """A discriminator, [N, 1, 16, 16] -> [N] logits, or a map of 2 x 2.

    classes: none | numbers | one_hot (projections) | classifier (a pair of outputs).
    """

    def __init__(self, classes: str = "none", norm: bool = False, is_map: bool = False):
        super().__init__()
        self.classes, self.is_map = classes, is_map
        # A bias would move by rounding alone
        self.down, self.again = nn.Conv2d(1, 4, 4, 2, 1), nn.Conv2d(4, 4, 4, 2, 1, bias=not norm)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.last = nn.Conv2d(4, 1, 2, 2) if is_map else nn.Linear(64, 1)
        self.embed = {"numbers": nn.Embedding, "one_hot": nn.Linear,
                      "classifier": lambda num, width: nn.Linear(width, num)}.get(
            classes, lambda *widths: None)(C_DIM, 64)  # fmt: skip

    def forward(self, img, c=None):
        h = F.silu(self.norm(self.again(F.silu(self.down(img)))))
        if self.is_map:
            return self.last(h)
        h = h.flatten(1)
        logits = self.last(h).squeeze(1)
        if self.classes == "classifier":
            return logits, self.embed(h)
        return logits if self.embed is None else logits + (self.embed(c) * h).sum(1)


class FlatD(nn.Sequential):
    """A perceptron for images."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(256, 8), nn.Softplus(), nn.Linear(8, 1))


class ReconstructingD(nn.Module):
    """A D that also reconstructs its image."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.decoder = nn.Linear(256, 6), nn.Linear(6, 1), nn.Linear(6, 256)

    def forward(self, img):
        return self.last(F.silu(self.first(img.flatten(1))))

    def forward_and_reconstruct(self, img):
        h = F.silu(self.first(img.flatten(1)))
        return self.last(h), (self.decoder(h) - img.flatten(1)).square().mean(1)


# --- both ways to train them ----------------------------------------------------------------------


def config_of(**overrides) -> Config:
    """Return a configuration. overrides: section__key=value.

    Adam's eps is large, so that a gradient twice as large is no longer the same step.
    """
    config = Config()
    base = {"model__architecture": "custom", "model__z_dim": Z_DIM, "run__batch_size": BATCH_SIZE,
            "optim__lr_G": 1e-2, "optim__lr_D": 2e-2,
            "optim__beta2": 0.9, "optim__eps": 1e-2, "run__compile": False}  # fmt: skip
    for key, value in (base | overrides).items():
        config = replace(config, key.replace("__", "."), value)
    return config


def make_feed(config: Config) -> ResidentFeed:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (NUM_IMAGES, RESOLUTION, RESOLUTION, 1), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, C_DIM, (NUM_IMAGES,), generator=generator) if config.model.c_dim else None
    return ResidentFeed(
        images, config.run.batch_size * (2 if config.loss.name == "relativistic" else 1), seed=5, labels=labels
    )


class Ours:
    """The engine of a configuration, on the eager rung until it is prepared."""

    def __init__(self, config: Config, G: nn.Module, D: nn.Module, reports: list | None = None):
        classifies = config.loss.class_D > 0
        self.signature = inspect_pair.inspect(
            G, D, config.model.z_dim, config.run.batch_size, CPU,
            inspect_pair.Classes(config.model.c_dim, classifies=classifies),
        )
        self.state: TrainState = make_train_state(G, D, config, self.signature, CPU, FP32)
        self.feed, self.generator = make_feed(config), torch.Generator().manual_seed(11)
        report = ([] if reports is None else reports).append
        self.engine: Engine = build.make_engine(
            config, self.signature, self.state, self.feed, self.generator, report
        )
        self.step = 0

    def run(self, num_steps: int, at_once: int = 1) -> None:
        for _ in range(num_steps // at_once):
            self.feed.reserve(at_once)
            self.engine.run(self.step, at_once)
            self.feed.launched(at_once)
            self.step += at_once

    def prepare(self) -> None:
        self.feed.reserve(self.feed.max_steps)
        self.engine.prepare()

    def statistics(self) -> dict[str, float]:
        return self.state.totals.means(self.state.totals.tensor.tolist())


class ProductAdam:
    """Adam whose bias is corrected by the product of the betas so far.

    The sum of the weights of a mean with changing betas is 1 minus that product.
    """

    def __init__(self, parameters, lr, betas, eps):
        self.param_groups = [{"params": list(parameters), "lr": lr, "betas": betas, "eps": eps}]
        self.state = {
            p: {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            for p in self.param_groups[0]["params"]
        }
        self.powers = [1.0, 1.0]

    def zero_grad(self):
        for p in self.state:
            p.grad = None

    @torch.no_grad()
    def step(self):
        (beta1, beta2), group = self.param_groups[0]["betas"], self.param_groups[0]
        self.powers = [self.powers[0] * beta1, self.powers[1] * beta2]
        for p, moments in self.state.items():
            moments["exp_avg"].lerp_(p.grad, 1 - beta1)
            moments["exp_avg_sq"].lerp_(p.grad.square(), 1 - beta2)
            mean, mean_sq = moments["exp_avg"] / (1 - self.powers[0]), moments["exp_avg_sq"] / (1 - self.powers[1])
            p -= group["lr"] * mean / (mean_sq.sqrt() + group["eps"])


class Plain:
    """The plain loop. one_hot: the networks, of G and D, that get the classes in this form."""

    def __init__(
        self, config: Config, G: nn.Module, D: nn.Module, source: build.InputSource, one_hot: str = ""
    ):
        self.config, self.G, self.D, self.source, self.one_hot = config, G.train(), D.train(), source, one_hot
        self.G_ema, self.feed = copy.deepcopy(G), make_feed(config)
        self.nimg, self.number, self.path_mean, self.seen = 0, 0, 0.0, {}
        penalty, optim = config.penalty, config.optim
        self.is_lazy = penalty.D_reg_interval > 1
        self.ratio_D = penalty.D_reg_interval / (penalty.D_reg_interval + 1) if self.is_lazy else 1.0
        self.ratio_G = penalty.G_reg_interval / (penalty.G_reg_interval + 1) if penalty.pl_weight else 1.0
        self.optimizer_D, self.optimizer_G = (
            self._optimizer(D, optim.lr_D, self.ratio_D, optim.name_D or optim.name),
            self._optimizer(G, optim.lr_G, self.ratio_G, optim.name),
        )

    def _optimizer(self, network, lr, ratio, name):
        optim, parameters = self.config.optim, list(network.parameters())
        betas = (optim.beta1**ratio, optim.beta2**ratio)
        decay = optim.weight_decay or 0.0
        if name == "rmsprop":
            return torch.optim.RMSprop(parameters, lr, alpha=optim.beta2, eps=optim.eps)
        if name == "sgd":
            return torch.optim.SGD(parameters, lr, momentum=optim.momentum, weight_decay=decay)
        if name == "adamw":
            return torch.optim.AdamW(parameters, lr * ratio, betas, optim.eps, weight_decay=decay)
        return (torch.optim.Adam if optim.beta2_end is None else ProductAdam)(parameters, lr * ratio, betas, optim.eps)

    def run(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self._step()
            self.number += 1

    def _step(self):
        loss, penalty, number = self.config.loss, self.config.penalty, self.number
        n_critic = loss.n_critic_intro if number < loss.n_critic_intro * loss.intro_updates else loss.n_critic
        self._follow_schedules()
        batch, num = self.feed.next_batch(), self.config.run.batch_size
        d_batch, g_batch = (batch.img[:num], None if batch.labels is None else batch.labels[:num]), None
        if loss.name == "relativistic":
            g_batch = batch.img[num:], None if batch.labels is None else batch.labels[num:]

        updates_G = (number + 1) % n_critic == 0
        in_one = updates_G and (n_critic == 1 or not loss.fresh_fakes)
        numbers = self.source.draw(PHASES["update" if in_one else "D"])
        fake_img = self._generate(numbers.z, d_batch[1])
        self._update_D(numbers, *d_batch, fake_img)
        if updates_G:
            labels = d_batch[1]
            if loss.fresh_fakes:
                labels = labels if g_batch is None else g_batch[1]  # of the images that the fakes are compared with
                numbers = numbers if in_one else self.source.draw(PHASES["G"])
                fake_img = self._generate(numbers.fresh_z if in_one else numbers.z, labels)
            self._update_G(numbers, fake_img, labels, g_batch)
        self.nimg += num
        if self.is_lazy and number % penalty.D_reg_interval == 0:
            self._penalise_D(self.source.draw(PHASES["D_penalty"]), *d_batch)
        if penalty.pl_weight and updates_G and number // n_critic % penalty.G_reg_interval == 0:
            self._penalise_G(self.source.draw(PHASES["G_penalty"]), d_batch[1])

    def _condition(self, labels, network):
        if labels is None:
            return ()
        return (torch.eye(C_DIM)[labels],) if network in self.one_hot else (labels,)

    def _generate(self, z, labels):
        return self.G(z, *self._condition(labels, "G"))

    def _judge(self, img, labels):
        """Return (logits [N, L], class logits)."""
        output = self.D(img, *self._condition(labels, "D"))
        logits, class_logits = output if isinstance(output, tuple) else (output, None)
        return logits.reshape(len(logits), -1), class_logits

    def _real(self, img, numbers):
        img = img / 127.5 - 1
        if numbers.mirror is not None:
            img = torch.stack(
                [each.flip(2) if draw.item() < 0.5 else each for each, draw in zip(img, numbers.mirror, strict=True)]
            )
        return self._seen(img, numbers, 0, 0)

    def _seen(self, img, numbers, augment_index, noise_index):
        """Return an image as D sees it."""
        if numbers.augment is not None:
            kind, policy = self.config.augment.kind, self.config.augment.policy
            policy = (
                tuple(policy.split(","))
                if policy
                else {"diff": ("colour", "translation", "cutout"), "ada": tuple(GROUPS)}[kind]
            )
            uniform = numbers.augment[augment_index]
            img = (
                diff_augment(img, uniform, policy)
                if kind == "diff"
                else ada_augment(img, uniform, torch.tensor(self.config.augment.p), policy)
            )
        return img if numbers.noise is None else img + self.config.loss.instance_noise * numbers.noise[noise_index]

    # --- D

    def _update_D(self, numbers, real, labels, fake_img):
        loss, penalty = self.config.loss, self.config.penalty
        if penalty.clip:
            for p in self.D.parameters():
                p.data.clamp_(-penalty.clip, penalty.clip)
        real_img, fake_img = self._real(real, numbers), self._seen(fake_img.detach(), numbers, 1, 1)
        (real_logits, class_logits), (fake_logits, _) = self._judge(real_img, labels), self._judge(fake_img, labels)
        total = d_loss = self._d_loss(real_logits, fake_logits, numbers)
        if loss.class_D:
            total = total + loss.class_D * F.cross_entropy(class_logits, labels)
        if loss.reconstruction:
            total = total + loss.reconstruction * self.D.forward_and_reconstruct(real_img)[1].mean()
        if not self.is_lazy:
            total = total + self._penalty(real_img, fake_img, labels, numbers)
        self._descend(self.optimizer_D, total)
        self._see(d_loss=d_loss, real_logits=real_logits.mean(), fake_logits=fake_logits.mean())

    def _d_loss(self, real, fake, numbers):
        loss = self.config.loss
        if loss.name == "relativistic":
            return F.softplus(-(real - fake)).mean()
        one, zero = torch.full_like(real, 1 - loss.smooth_real), torch.full_like(fake, loss.smooth_fake)
        if numbers.flips is not None:
            wrong_real, wrong_fake = numbers.flips < loss.flip_labels
            one, zero = torch.where(wrong_real, zero, one), torch.where(wrong_fake, one, zero)
        if loss.name in ("non_saturating", "saturating"):
            return F.binary_cross_entropy_with_logits(real, one) + F.binary_cross_entropy_with_logits(fake, zero)
        if loss.name == "wasserstein":
            return (fake * (1 - 2 * zero)).mean() - (real * (2 * one - 1)).mean()
        if loss.name == "least_squares":
            return (F.mse_loss(real, one) + F.mse_loss(fake, zero)) / 2
        margins = (1.0, 1.0) if numbers.margin is None else loss.hinge_margin + (1 - loss.hinge_margin) * numbers.margin
        return sum(
            (t * F.relu(m - x) + (1 - t) * F.relu(m + x)).mean()
            for x, t, m in zip((real, fake), (one, zero), margins, strict=True)
        )

    def _penalty(self, real_img, fake_img, labels, numbers):
        """Return the sum of D's penalties, each from a pass of its own."""
        penalty, total = self.config.penalty, 0.0
        for name, weight, img in (
            ("r1_penalty", penalty.r1_gamma / 2, real_img),
            ("r2_penalty", penalty.r2_gamma / 2, fake_img),
        ):
            if weight:
                value = self._slopes(img, labels).square().sum(1).mean()
                total = total + weight * self.gamma_factor * value
                self._see(**{name: value})
        if penalty.gp_weight:
            t = numbers.between
            value = (self._slopes((1 - t) * real_img + t * fake_img, labels).norm(dim=1) - 1).square().mean()
            total = total + penalty.gp_weight * value
            self._see(gradient_penalty=value)
        return total

    def _slopes(self, img, labels):
        img = img.detach().requires_grad_()
        return torch.autograd.grad(self._judge(img, labels)[0].sum(), img, create_graph=True)[0].flatten(1)

    def _penalise_D(self, numbers, real, labels):
        fake_img = self._seen(self._generate(numbers.z, labels).detach(), numbers, 1, 1)
        self._descend(
            self.optimizer_D,
            self.config.penalty.D_reg_interval * self._penalty(self._real(real, numbers), fake_img, labels, numbers),
        )

    # --- G

    def _update_G(self, numbers, fake_img, labels, g_batch):
        loss = self.config.loss
        fake, class_logits = self._judge(self._seen(fake_img, numbers, 1 if numbers.fresh_z is None else 2, 2), labels)
        if loss.name == "relativistic":
            real = self._judge(self._real(g_batch[0], numbers), g_batch[1])[0]
            total = F.softplus(-(fake - real.detach())).mean()
        elif loss.name == "least_squares":
            total = (fake - 1).square().mean() / 2
        elif loss.name == "saturating":
            total = torch.log(1 - torch.sigmoid(fake)).mean()
        else:
            total = -torch.log(torch.sigmoid(fake)).mean() if loss.name == "non_saturating" else -fake.mean()
        self._see(g_loss=total)
        if loss.class_G:
            total = total + loss.class_G * F.cross_entropy(class_logits, labels)
        if self.config.penalty.orthogonal:
            for p in self.G.parameters():
                if p.dim() > 1:
                    products = p.flatten(1) @ p.flatten(1).T
                    total = (
                        total
                        + self.config.penalty.orthogonal * (products * (1 - torch.eye(len(products)))).square().sum()
                    )
        self._descend(self.optimizer_G, total)
        if self.config.optim.ema_kimg is not None:
            self._average()

    @torch.no_grad()
    def _average(self):
        optim, batches = self.config.optim, self.config.loss.n_critic
        kimg = optim.ema_kimg
        if optim.ema_start_kimg is not None:
            kimg = optim.ema_start_kimg + (kimg - optim.ema_start_kimg) * self._progress()
        if optim.ema_rampup is not None:
            kimg = min(kimg, optim.ema_rampup * self.nimg / 1000)
        beta = 0.5 ** (self.config.run.batch_size * batches / (1000 * kimg)) if kimg else 0.0
        for average, p in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
            average.copy_(beta * average + (1 - beta) * p)
        for average, buffer in zip(self.G_ema.buffers(), self.G.buffers(), strict=True):
            is_averaged = optim.ema_buffers == "average" and buffer.is_floating_point()
            average.copy_(beta * average + (1 - beta) * buffer if is_averaged else buffer)

    def _penalise_G(self, numbers, labels):
        penalty = self.config.penalty
        ws = self.G.mapping(numbers.z, *self._condition(None if labels is None else labels[:len(numbers.z)], "G"))
        img = self.G.synthesis(ws)
        y = numbers.path_noise / math.sqrt(img.shape[2] * img.shape[3])
        (gradient,) = torch.autograd.grad((img * y).sum(), ws, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        self.path_mean = self.path_mean + penalty.pl_decay * (lengths.mean().item() - self.path_mean)
        self._descend(
            self.optimizer_G, penalty.G_reg_interval * penalty.pl_weight * (lengths - self.path_mean).square().mean()
        )
        self._see(path_length=lengths.mean())

    # --- values that follow a schedule

    def _progress(self):
        optim = self.config.optim
        t = min(1.0, self.nimg / (1000 * optim.decay_kimg))
        return (1 - math.cos(math.pi * t)) / 2 if optim.decay == "cosine" else t

    def _follow_schedules(self):
        optim, gamma_end = self.config.optim, self.config.penalty.gamma_end
        self.gamma_factor = 1 if gamma_end == 1 else 1 + (gamma_end - 1) * self._progress()
        for optimizer, ratio in ((self.optimizer_G, self.ratio_G), (self.optimizer_D, self.ratio_D)):
            group = optimizer.param_groups[0]
            group.setdefault("initial_lr", group["lr"])
            if optim.decay != "none":
                group["lr"] = group["initial_lr"] * (1 + (optim.lr_end - 1) * self._progress())
            if optim.warmup_kimg:
                base = group["lr"] if optim.decay != "none" else group["initial_lr"]
                group["lr"] = base * min(1.0, self.nimg / (1000 * optim.warmup_kimg))
            if optim.beta2_end is not None:
                start = optim.beta2**ratio
                group["betas"] = group["betas"][0], start + (optim.beta2_end**ratio - start) * self._progress()

    def _descend(self, optimizer, total):
        optimizer.zero_grad()
        self.G.zero_grad()
        self.D.zero_grad()
        total.backward()
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        if self.config.optim.grad_clip:
            nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], self.config.optim.grad_clip)
        optimizer.step()

    def _see(self, **values):
        for name, value in values.items():
            self.seen.setdefault(name, []).append(value.item())


def twins(config: Config, make_G, make_D, reports: list | None = None) -> tuple[Ours, Plain]:
    """Return the engine and the loop with the same networks, images and random numbers."""
    torch.manual_seed(17)
    ours = Ours(config, make_G(), make_D(), reports)
    G, D = copy.deepcopy(ours.state.G), copy.deepcopy(ours.state.D)
    generator = torch.Generator().manual_seed(11)
    source = build.InputSource(config, ours.signature, ours.state, make_feed(config), generator)
    conditions = {"G": ours.signature.calls.G_condition, "D": ours.signature.calls.D_condition}
    one_hot = "".join(name for name, condition in conditions.items() if condition.form == "one-hot")
    return ours, Plain(config, G, D, source, one_hot)


def assert_agree(ours: Ours, plain: Plain, rtol: float = 1e-5, atol: float = 1e-7) -> None:
    """Assert that the engine and the loop agree.

    Compared are weights, statistics of BatchNorm, the average, the optimisers' moments and the
    means of all statistics.
    """
    pairs = [("G", ours.state.G, plain.G), ("D", ours.state.D, plain.D)]
    if plain.config.optim.ema_kimg is not None:
        pairs.append(("G_ema", ours.state.G_ema, plain.G_ema))
    for network, a, b in pairs:
        for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
            _assert_near(x, y, rtol, atol, f"{network} {name}")
    for network, a, b in (
        ("G", ours.state.optimizer_G, plain.optimizer_G),
        ("D", ours.state.optimizer_D, plain.optimizer_D),
    ):
        for key in [key for key in ("exp_avg", "exp_avg_sq", "square_avg") if hasattr(a, key)]:
            for i, (x, p) in enumerate(zip(getattr(a, key), b.param_groups[0]["params"], strict=True)):
                _assert_near(x, b.state[p][key], 20 * rtol, 100 * atol, f"{key} {i} of {network}")
    statistics = ours.statistics()
    for name, values in plain.seen.items():
        mean = sum(values) / len(values)
        assert abs(statistics[name] - mean) <= 10 * rtol * (1 + abs(mean)), name


def _assert_near(ours, theirs, rtol, atol, what):
    """Assert closeness in norm: single elements may have cancelled to nothing."""
    difference, size = (ours.double() - theirs.double()).norm().item(), theirs.double().norm().item()
    assert difference <= rtol * size + atol * math.sqrt(ours.numel()), (
        f"{what} is off by {difference:.2g} of {size:.2g}"
    )
