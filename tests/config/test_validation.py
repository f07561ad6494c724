"""Options that do not go together are refused in a sentence that names one; others are not."""
import pytest

from fastgan.config import replace
from fastgan.config.presets import preset
from fastgan.config.validation import validate
from fastgan.errors import UserError


def changed(name: str, changes: dict):
    config = preset(name)
    for key, value in changes.items():
        config = replace(config, key, value)
    return config


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("dcgan", {"loss.n_critic": 0}, "loss.n_critic is 0"),
        ("dcgan", {"loss.n_critic_intro": 100}, "belong together"),
        ("dcgan", {"loss.intro_updates": 25}, "belong together"),
        ("dcgan", {"run.batch_gpu": 48}, "--batch-gpu 48 does not divide --batch-size 64"),
        ("dcgan", {"penalty.gp_weight": -1.0}, "penalty.gp_weight is -1"),
        ("dcgan", {"penalty.D_reg_interval": 16}, "needs a penalty of D"),
        ("dcgan", {"penalty.gamma_end": 0.1}, "optim.decay_kimg"),
        ("dcgan", {"optim.decay": "linear"}, "needs optim.decay_kimg"),
        ("dcgan", {"optim.decay": "step"}, "none, linear, cosine"),
        ("dcgan", {"optim.ema_rampup": 0.05}, "optim.ema_kimg"),
        ("wgan", {"optim.beta2_end": 0.9, "optim.decay_kimg": 10.0}, "need optim.name=adam"),
        ("wgan", {"penalty.r1_gamma": 1.0, "penalty.D_reg_interval": 4}, "need optim.name=adam"),
        ("stylegan2", {"optim.name_D": "sgd"}, "need optim.name=adam or adamw, not sgd"),
        ("dcgan", {"optim.momentum": 0.5}, "optim.momentum is for sgd and rmsprop, and has no effect on adam"),
        ("dcgan", {"optim.weight_decay": -0.1}, "optim.weight_decay is -0.1"),
        ("dcgan", {"optim.ema_buffers": "average"}, "optim.ema_buffers needs a moving average"),
        ("dcgan", {"loss.name": "custom"}, "loss.name=custom is for losses from Python"),
        ("dcgan", {"model.D_noise_kimg": 5.0}, "give model.D_noise"),
        ("wgan-gp", {"model.D_noise": 0.1}, "model.D_noise is for dcgan, mlp, samples, points"),
        ("r3gan", {"loss.smooth_real": 0.1}, "no labels to smooth"),
        ("dcgan", {"loss.hinge_margin": 0.5}, "hinge_margin needs loss.name=hinge"),
        ("lightweight", {"penalty.r1_gamma": 1.0}, "do not share a pass"),
        ("dcgan", {"model.c_dim": 10}, "--cond"),
        ("dcgan", {"loss.class_D": 1.0}, "--cond"),
        ("acgan", {"loss.class_D": 0.0}, "loss.class_D as well"),
        ("mlp-tf", {"augment.kind": "diff"}, "from -1 to 1"),
        ("ring8", {"augment.kind": "ada"}, "from -1 to 1"),
        ("ring8", {"model.cond": True}, "--cond needs images"),
        ("ring8", {"data.source": "gaussian"}, "points in the plane"),
        ("gaussian1d", {"data.source": "ring8"}, "the numbers of a Gaussian"),
        ("dcgan", {"data.source": "ring8"}, "are numbers, not images"),
        ("ring8", {"run.steps": None, "run.epochs": 2.0}, "--epochs needs a finite data set"),
        ("dcgan", {"augment.p": 1.5}, "augment.p is 1.5"),
        ("biggan", {"model.conditioning": "sum"}, "concat, projection, classifier"),
        ("dcgan", {"model.D_norm": "group"}, "model.D_norm is 'group'"),
        ("sngan", {"model.D_norm": "weight"}, "that of resnet can be none, batch, instance, layer, spectral"),
        ("wgan-gp-64", {"model.D_norm": "spectral"}, "that of resnet-stem can be"),
        ("stylegan2", {"model.D_norm": "spectral"}, "normalisation of its recipe"),
        ("mlp", {"model.G_norm": "none"}, "model.G_norm is for dcgan"),
        ("dcgan", {"model.G_hidden": (512,)}, "model.G_hidden is for mlp, samples, points, and has no effect on dcgan"),
        ("stylegan2", {"model.ngf": 32}, "model.ngf is for dcgan"),
        ("mlp", {"model.D_skips": False}, "model.D_skips is for stylegan2, and has no effect on mlp"),
        ("cgan", {"model.conditioning": "classifier"}, "is for resnet, and this is dcgan"),
        ("biggan", {"model.conditioning": "concat"}, "is for dcgan and mlp, and this is biggan"),
        ("wgan-gp", {"model.img_low": 0.0}, "must be -1 for resnet"),
        ("mlp-tf", {"model.cond": True}, "must be -1 for mlp with --cond"),
        ("dcgan", {"penalty.pl_weight": 2.0}, "stylegan2 alone"),
        ("r3gan", {"loss.reconstruction": 1.0}, "lightweight alone"),
        ("gaussian1d", {"run.batch_gpu": 50}, "--batch-gpu 50 is not a multiple of 100"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(name, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        validate(changed(name, changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dcgan", {"run.batch_gpu": 16}),
        ("dcgan", {"penalty.gp_weight": 10.0, "loss.name": "wasserstein", "loss.n_critic": 5}),
        ("dcgan", {"penalty.r1_gamma": 1.0, "penalty.D_reg_interval": 16}),
        (
            "dcgan",
            {
                "optim.decay": "cosine",
                "optim.decay_kimg": 10.0,
                "optim.beta2_end": 0.9,
                "optim.ema_kimg": 1.0,
                "optim.ema_start_kimg": 0.0,
            },
        ),
        ("dcgan", {"model.cond": True, "model.c_dim": 10}),
        ("dcgan", {"augment.kind": "ada", "augment.p_end": 0.5, "optim.decay_kimg": 10.0}),
        ("ring8", {"loss.flip_labels": 0.1}),
        ("ring8", {"data.source": "grid25"}),
        ("gaussian1d", {"run.batch_size": 200, "run.batch_gpu": 100}),
        ("cgan", {"model.conditioning": "concat", "model.D_norm": "spectral"}),
    ],
)
def test_what_goes_together(name, changes):
    config = changed(name, changes)
    assert validate(config) == config
