"""Steps of every kind by name: losses, penalties, schedules, networks, classes.

Each is a set of overrides for plain_loop.config_of.
"""
from functools import partial

from plain_loop import C_DIM, D, FlatD, G, ReconstructingD, StyleG

WGAN_GP = {"loss__name": "wasserstein", "penalty__gp_weight": 10.0}
R3GAN = {
    "loss__name": "relativistic",
    "loss__fresh_fakes": True,
    "penalty__r1_gamma": 0.5,
    "penalty__r2_gamma": 0.3,
    "optim__beta1": 0.0,
}
LAZY_R1 = {"loss__fresh_fakes": True, "penalty__r1_gamma": 2.0, "penalty__D_reg_interval": 4}
PATHS = {"penalty__pl_weight": 2.0, "penalty__G_reg_interval": 2, "penalty__pl_decay": 0.2}
CLASSES = {"model__cond": True, "model__c_dim": C_DIM}
NUMBERS, ONE_HOT = (
    {"make_G": partial(G, classes), "make_D": partial(D, classes)} for classes in ("numbers", "one_hot")
)
TRICKS = {"loss__smooth_real": 0.1, "loss__smooth_fake": 0.2, "loss__flip_labels": 0.4}

CASES = {
    # Losses
    "non saturating": {},
    "saturating, fresh": {"loss__name": "saturating", "loss__fresh_fakes": True},
    "hinge": {"loss__name": "hinge"},
    "hinge with random margins": {"loss__name": "hinge", "loss__hinge_margin": 0.5},
    "least squares": {"loss__name": "least_squares"},
    "relativistic": {"loss__name": "relativistic"},
    "relativistic, n_critic 2, fresh": {"loss__name": "relativistic", "loss__n_critic": 2, "loss__fresh_fakes": True},
    "relativistic, n_critic 2": {"loss__name": "relativistic", "loss__n_critic": 2},
    **{f"{name} with tricks": {"loss__name": name, **TRICKS}
       for name in ("non_saturating", "wasserstein", "hinge", "least_squares")},
    "noise": {"loss__instance_noise": 0.3, "loss__name": "hinge"},
    "mirror": {"data__mirror": True, "loss__name": "relativistic"},
    "uniform z": {"model__z_distribution": "uniform"},
    "augmented": {"augment__kind": "diff", "loss__name": "hinge", "loss__instance_noise": 0.1},
    "augmented, lazy r1, n_critic 2": {**LAZY_R1, "augment__kind": "diff", "augment__policy": "translation,cutout",
                                       "loss__n_critic": 2},
    "augmented, r3gan": {**R3GAN, "augment__kind": "ada", "augment__policy": "blit,geometry", "augment__p": 0.5,
                         "augment__target": 0.0},
    "augmented in every way": {"augment__kind": "ada", "augment__p": 0.9, "augment__target": 0.0},
    # Penalties
    **{f"wgan-gp, n_critic {n}{', fresh' * fresh}": {**WGAN_GP, "loss__n_critic": n, "loss__fresh_fakes": fresh}
       for n in (1, 2, 5) for fresh in (False, True)},
    "wgan-gp, lazy": {**WGAN_GP, "penalty__D_reg_interval": 3, "loss__n_critic": 2},
    "gp of a cross-entropy": {"penalty__gp_weight": 10.0},
    "r1": {"penalty__r1_gamma": 1.0},
    "r2": {"penalty__r2_gamma": 1.0, "loss__name": "hinge"},
    "r3gan": R3GAN,
    "r3gan, n_critic 2": {**R3GAN, "loss__n_critic": 2},
    "lazy r1": LAZY_R1,
    "lazy r1 and r2 and gp": {**LAZY_R1, "penalty__r2_gamma": 1.0, "penalty__gp_weight": 2.0, "penalty__D_reg_interval": 2,
                              "data__mirror": True},
    "lazy r1, n_critic 2, noise": {**LAZY_R1, "loss__n_critic": 2, "loss__instance_noise": 0.3},
    "clipping": {"loss__name": "wasserstein", "penalty__clip": 0.05, "optim__name": "rmsprop", "loss__n_critic": 5},
    "orthogonal": {"penalty__orthogonal": 0.1, "loss__name": "hinge"},
    # An intro
    "intro of wgan": {"loss__name": "wasserstein", "penalty__clip": 0.05, "loss__n_critic": 2,
                      "loss__n_critic_intro": 3, "loss__intro_updates": 2},
    "intro, later one for one, fresh": {**LAZY_R1, "loss__n_critic_intro": 3, "loss__intro_updates": 2},
    "intro of one for one": {**LAZY_R1, "loss__n_critic": 3, "loss__n_critic_intro": 1, "loss__intro_updates": 3},
    # Schedules and averages
    "average, n_critic 2": {"optim__ema_kimg": 0.02, "loss__n_critic": 2},
    "average, n_critic 2, fresh, rmsprop": {"optim__ema_kimg": 0.02, "loss__n_critic": 2, "loss__fresh_fakes": True,
                                            "optim__name": "rmsprop"},
    "average of buffers, batch norm": {"make_G": partial(G, norm=True), "optim__ema_kimg": 0.02,
                                       "optim__ema_buffers": "average"},
    "average of a share": {"optim__ema_kimg": 0.02, "optim__ema_rampup": 0.4},
    "linear decay": {"optim__decay": "linear", "optim__decay_kimg": 0.04, "optim__lr_end": 0.25},
    "linear decay to 0 of lazy r1": {**LAZY_R1, "optim__decay": "linear", "optim__decay_kimg": 0.03},
    "warm-up": {"optim__warmup_kimg": 0.016},
    "all of r3gan's": {**R3GAN, "optim__decay": "cosine", "optim__decay_kimg": 0.03, "optim__lr_end": 0.25,
                       "optim__beta2_end": 0.99,
                       "optim__ema_kimg": 0.05, "optim__ema_start_kimg": 0.0, "penalty__gamma_end": 0.1,
                       "optim__warmup_kimg": 0.01},
    "a linear beta2, lazy": {**LAZY_R1, "optim__beta2_end": 0.99, "optim__decay_kimg": 0.03, "optim__beta1": 0.6},
    "a linear gamma, lazy": {**LAZY_R1, "penalty__gamma_end": 0.1, "optim__decay_kimg": 0.02},
    # Optimisers
    "adamw, lazy r1": {**LAZY_R1, "optim__name": "adamw", "optim__weight_decay": 0.5, "optim__ema_kimg": 0.02},
    "sgd with momentum": {"optim__name": "sgd", "optim__momentum": 0.5, "optim__weight_decay": 0.1,
                          "optim__ema_kimg": 0.02},
    "adam of G, sgd of D": {"optim__name_D": "sgd", "loss__name": "hinge"},
    "clipped gradients, gp, n_critic 2": {**WGAN_GP, "loss__n_critic": 2, "optim__grad_clip": 0.05},
    "clipped gradients, lazy r1, path length": {**LAZY_R1, **PATHS, "make_G": StyleG, "optim__grad_clip": 0.02},
    # Networks
    "batch norm": {"make_G": partial(G, norm=True), "make_D": partial(D, norm=True), "optim__ema_kimg": 0.02},
    "batch norm, hinge, n_critic 2, fresh": {"make_G": partial(G, norm=True), "make_D": partial(D, norm=True),
                                             "loss__name": "hinge",
                                             "loss__n_critic": 2, "loss__fresh_fakes": True},
    "batch norm in G, gp": {"make_G": partial(G, norm=True), **WGAN_GP},
    "perceptron, gp": {"make_D": FlatD, **WGAN_GP},
    "map of logits": {"make_D": partial(D, is_map=True), "loss__name": "hinge", **TRICKS},
    "map of logits, r3gan": {"make_D": partial(D, is_map=True), **R3GAN},
    "reconstruction": {"make_D": ReconstructingD, "loss__reconstruction": 0.5, "loss__name": "hinge"},
    "path length": {"make_G": StyleG, **PATHS},
    "path length of every update": {"make_G": StyleG, **PATHS, "penalty__G_reg_interval": 1},
    "path length, n_critic 2, lazy r1": {"make_G": StyleG, **PATHS, **LAZY_R1, "loss__n_critic": 2,
                                         "optim__ema_kimg": 0.02},
    # Classes
    "classes": {**CLASSES, **NUMBERS},
    "one-hot classes, gp, n_critic 2, fresh": {**CLASSES, **ONE_HOT, **WGAN_GP, "loss__n_critic": 2,
                                               "loss__fresh_fakes": True},
    "classes, saturating, tricks": {**CLASSES, **NUMBERS, **TRICKS, "loss__name": "saturating"},
    "classes, r3gan": {**CLASSES, **NUMBERS, **R3GAN},
    "classes, r3gan, n_critic 2": {**CLASSES, **NUMBERS, **R3GAN, "loss__n_critic": 2},
    "classes, relativistic, reused": {**CLASSES, **NUMBERS, "loss__name": "relativistic"},
    "classes, lazy r1 and r2": {**CLASSES, **NUMBERS, **LAZY_R1, "penalty__r2_gamma": 1.0},
    "classes, path length": {**CLASSES, "make_G": partial(StyleG, "numbers"), "make_D": partial(D, "numbers"), **PATHS},
    "classifier": {**CLASSES, "make_G": partial(G, "numbers"), "make_D": partial(D, "classifier"),
                   "loss__class_D": 1.0, "loss__class_G": 0.1},
    "classifier, gp": {**CLASSES, "make_G": partial(G, "numbers"), "make_D": partial(D, "classifier"),
                       "loss__class_D": 1.0, "loss__class_G": 0.1,
                       **WGAN_GP, "loss__n_critic": 2},
    "classifier, r1": {**CLASSES, "make_G": partial(G, "one_hot"), "make_D": partial(D, "classifier"),
                       "loss__class_D": 0.5,
                       "penalty__r1_gamma": 1.0, "loss__name": "hinge"},
}  # fmt: skip
