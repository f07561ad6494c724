"""Inspection of the networks of many users: the signatures found, and the pairs refused."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan.errors import UserError
from fastgan.models.stylegan2_layers import MinibatchStd
from fastgan.nn.layers import BatchNorm2d
from fastgan.nn.pair.inspect_pair import SUPPORTED, Classes, inspect, untouched
from fastgan.nn.pair.outputs import logits_of
from fastgan.nn.pair.prepare import set_training, unwrapped

CPU = torch.device("cpu")
N = 8


class Forward(nn.Module):
    """A module with some layers and a forward() that a test writes in place."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = forward

    def forward(self, *inputs):
        return self.function(self, *inputs)


def mlp_G(z_dim=6):
    return nn.Sequential(nn.Linear(z_dim, 16), nn.ReLU(), nn.Linear(16, 256), nn.Tanh(), nn.Unflatten(1, (1, 16, 16)))


def flat_G():
    return nn.Sequential(nn.Linear(6, 256), nn.Tanh())


def conv_G():
    return nn.Sequential(
        nn.ConvTranspose2d(5, 8, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 4), nn.Tanh(),
    )  # fmt: skip


def mlp_D(*last):
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), *last)


def conv_D(*last, norm=nn.Identity):
    return nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4, 8, 4, 2, 1),
        norm(8),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8, 1, 4),
        *last,
    )


def look(G=None, D=None, z_dim=None, batch_size=N):
    torch.manual_seed(0)
    return inspect(G or mlp_G(), D or mlp_D(), z_dim, batch_size, CPU)


# --- z and the shape of the images ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("G", "D", "z_shape", "img_shape"),
    [
        (mlp_G, mlp_D, (6,), (1, 16, 16)),
        (conv_G, conv_D, (5, 1, 1), (1, 16, 16)),
        (flat_G, lambda: nn.Sequential(nn.Linear(256, 1)), (6,), (256,)),
        (lambda: nn.Linear(2, 3), lambda: nn.Linear(3, 1), (2,), (3,)),
        (lambda: Forward(lambda self, z: self.net(z.view(len(z), 5, 1, 1)), net=conv_G()), conv_D, (5,), (1, 16, 16)),
    ],
    ids=["mlp", "conv", "flat", "samples", "conv that unfolds z"],
)
def test_z_and_images_are_found_out(G, D, z_shape, img_shape):
    for z_dim in (None, z_shape[0]):
        signature = look(G(), D(), z_dim)
        assert signature.z_shape == z_shape
        assert signature.img_shape == img_shape
        assert signature.notes == ()


def test_a_g_that_asserts_the_shape_of_z_is_asked_again():
    def forward(self, z):
        assert z.dim() == 4, "give z as [N, z, 1, 1]"
        return self.net(z)

    assert look(Forward(forward, net=conv_G()), conv_D()).z_shape == (5, 1, 1)


def test_a_wrong_z_dim_says_what_g_answered():
    with pytest.raises(
        UserError, match=r"does not take z as \[N, 7\], \[N, 7, 1, 1\].*\(is z_dim right\?\).*mat1 and mat2"
    ) as caught:
        look(mlp_G(), z_dim=7)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("G", [nn.Sequential(nn.PReLU()), nn.Sequential(nn.LazyLinear(256))], ids=["no linear", "lazy"])
def test_a_z_dim_that_cannot_be_read_is_asked_for(G):
    with pytest.raises(UserError, match="give z_dim"):
        look(G)


def test_a_lazy_d_is_made_by_looking():
    D = nn.Sequential(nn.Flatten(), nn.LazyLinear(1))
    assert look(D=D).one_pass
    assert D[1].weight.shape == (1, 256)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("G", "D", "words"),
    [
        (lambda z: z, None, "G is a function; it must be a torch.nn.Module"),
        (None, "vgg", "D is a str; it must be a torch.nn.Module"),
        (nn.Tanh(), None, "G has no parameter that requires a gradient"),
        (None, Forward(lambda self, img: [], net=mlp_D()), "D returns a list without tensors; " + SUPPORTED),
        (None, Forward(lambda self, img: None, net=mlp_D()), "D returns a NoneType without tensors; " + SUPPORTED),
        (None, Forward(lambda self, img: self.net(img).expand(-1, 2).softmax(1), net=mlp_D()), "D ends in a softmax"),
        (
            None,
            Forward(lambda self, img: self.net(img).mean(), net=mlp_D()),
            "D returns a single number for the whole batch",
        ),
        (None, Forward(lambda self, img, c: self.net(img), net=mlp_D()), "D does not take G's images [8, 1, 16, 16]"),
        (
            None,
            nn.Sequential(nn.Flatten(), nn.Linear(784, 1)),
            "mat1 and mat2 shapes cannot be multiplied",
        ),
        (Forward(lambda self, z: (), net=mlp_G()), None, "a tuple without tensors"),
        (Forward(lambda self, z, c: self.net(z), net=mlp_G()), None, SUPPORTED),
        (nn.Sequential(nn.Linear(6, 16), nn.Flatten(0)), None, "[8, 6] gives [128]"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(G, D, words):
    with pytest.raises(UserError) as caught:
        look(G, D)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("which", ["G", "D"])
def test_frozen_networks_are_refused(which):
    state = {"G": mlp_G(), "D": mlp_D()}
    for parameter in state[which].parameters():
        parameter.requires_grad = False
    with pytest.raises(UserError, match=f"{which} has no parameter that requires a gradient"):
        look(**state)
    next(state[which].parameters()).requires_grad = True
    assert look(**state)


# --- classes ----------------------------------------------------------------------------------------------------------

C = 3


def class_G(make_condition=lambda c: F.one_hot(c, C).float()):
    """Make a G by class. make_condition: c as G takes it -> float32 [N, 3], beside z [N, 6]."""
    return Forward(lambda self, z, c: self.net(torch.cat([z, make_condition(c)], 1)), net=mlp_G(6 + C))


def class_D(make_condition=lambda c: F.one_hot(c, C).float()):
    return Forward(
        lambda self, img, c: self.net(torch.cat([img.flatten(1), make_condition(c)], 1)), net=nn.Linear(256 + C, 1)
    )


def pair_D(end=None):
    """Make a D with an auxiliary classifier."""

    def forward(self, img, c):
        h = self.first(img.flatten(1))
        return self.end(self.last(h)), self.classes(h)

    return Forward(
        forward, first=nn.Linear(256, 8), last=nn.Linear(8, 1), end=end or nn.Identity(), classes=nn.Linear(8, C)
    )


def one_hot(c):
    """Return c itself, where it is one-hot."""
    assert c.is_floating_point(), "give classes one-hot"
    return c


def forms(signature):
    return signature.calls.G_condition.form, signature.calls.D_condition.form


def look_at_classes(G=None, D=None, c_dim=C, classifies=False, z_dim=6, batch_size=N):
    torch.manual_seed(0)
    return inspect(G or class_G(), D or class_D(), z_dim, batch_size, CPU, Classes(c_dim, classifies=classifies))


def test_classes_are_numbers_where_both_take_them():
    signature = look_at_classes()
    assert forms(signature) == ("numbers", "numbers")
    assert (signature.z_shape, signature.img_shape, signature.one_pass, signature.num_judged) == (
        (6,),
        (1, 16, 16),
        True,
        N,
    )
    embedding = Forward(lambda self, z, c: self.net(z + self.embed(c)), net=mlp_G(), embed=nn.Embedding(C, 6))
    assert forms(look_at_classes(embedding)) == ("numbers", "numbers")


def test_classes_are_one_hot_where_g_takes_no_numbers():
    assert forms(look_at_classes(class_G(one_hot), class_D(one_hot))) == ("one-hot", "one-hot")
    # Numbers [N] do not stand beside z [N, 6]
    assert forms(look_at_classes(class_G(lambda c: c), class_D(lambda c: c))) == ("one-hot", "one-hot")
    maps = Forward(lambda self, z, c: self.net(torch.cat([z, one_hot(c)[:, :, None, None]], 1)),
                   net=nn.Sequential(nn.ConvTranspose2d(6 + C, 8, 4), nn.ConvTranspose2d(8, 1, 4, 4)))  # fmt: skip
    signature = look_at_classes(maps, class_D(one_hot))
    assert (forms(signature), signature.z_shape) == (("one-hot", "one-hot"), (6, 1, 1))


def test_without_classes_nothing_is_given_beside_z_and_images():
    signature = look()
    assert forms(signature) == ("none", "none")
    assert forms(look_at_classes(mlp_G(), mlp_D(), c_dim=0)) == ("none", "none")


@pytest.mark.parametrize("batch_size", [1, 2, N])
def test_every_number_of_images_gets_classes(batch_size):
    """Fewer images than classes get them too, and twice as many.

    The latter occur in the check that real and fake may share a pass.
    """
    signature = look_at_classes(batch_size=batch_size)
    assert (signature.num_judged, signature.one_pass) == (batch_size, batch_size > 1)


def test_a_d_with_company_is_found_among_classes_too():
    D = class_D()
    D.norm = nn.BatchNorm1d(256 + C)
    D.function = lambda self, img, c: self.net(self.norm(torch.cat([img.flatten(1), F.one_hot(c, C).float()], 1)))
    assert not look_at_classes(D=D).one_pass


def test_an_auxiliary_classifier_gives_a_pair():
    signature = look_at_classes(D=pair_D(), classifies=True)
    assert (signature.one_pass, signature.num_judged, signature.notes) == (True, N, ())
    D = pair_D(end=nn.Sigmoid())
    assert "D ended in nn.Sigmoid" in look_at_classes(D=D, classifies=True).notes[0]
    assert isinstance(D.end, nn.Identity)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ({"G": mlp_G()}, "G does not take z with classes as [N, 6], [N, 6, 1, 1], [N, 6, 1], [N, 6, 1, 1, 1] (is"),
        ({"D": mlp_D()}, "D does not take G's images [8, 1, 16, 16]: class numbers, int64 [N]: "),
        ({"classifies": True}, "loss.class_D and class_G need a D that returns a pair"),
        ({"D": Forward(lambda self, img, c: (self.net(img),) * 2, net=mlp_D()), "classifies": True},
         "the logits of an auxiliary classifier [N, 3]"),
        ({"D": Forward(lambda self, img, c: (self.net(img),) * 3, net=mlp_D()), "classifies": True},
         "need a D that returns a pair"),
        ({"G": class_G(one_hot), "D": Forward(lambda self, img, c: self.net(img).mean(), net=mlp_D())},
         "a single number for the whole batch"),
        ({"G": Forward(lambda self, z, c: self.net(z + self.embed(c)), net=mlp_G(), embed=nn.Embedding(2, 6))},
         "index out of range"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_by_classes_is_said_in_a_sentence(pair, words):
    with pytest.raises(UserError) as caught:
        look_at_classes(**pair)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# --- no trace ---------------------------------------------------------------------------------------------------------


def traces(*state):
    buffers = [buffer.clone() for network in state for buffer in network.buffers()]
    parameters = [parameter.detach().clone() for network in state for parameter in network.parameters()]
    flags = [module.training for network in state for module in network.modules()]
    return [*buffers, *parameters, torch.get_rng_state()], flags


def with_state():
    D = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 4, 4, 4)),
        nn.BatchNorm2d(4),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(64, 1),
    )
    G = conv_G()
    G[1].eval()
    return G, D.eval()


def assert_same(before, after):
    assert before[1] == after[1]
    assert all(torch.equal(old, new) for old, new in zip(before[0], after[0], strict=True))


def test_looking_leaves_no_trace():
    G, D = with_state()
    before = traces(G, D)
    inspect(G, D, None, N, CPU)
    assert_same(before, traces(G, D))


def test_a_refusal_leaves_no_trace_either():
    G, _ = with_state()
    D = Forward(lambda self, img: self.net(img).sum(), net=nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(), conv_D()))
    before = traces(G, D)
    with pytest.raises(UserError):
        inspect(G, D, None, N, CPU)
    assert_same(before, traces(G, D))


def test_untouched_puts_back_what_was_changed():
    network = nn.BatchNorm1d(3)
    before = traces(network)

    def change_and_fail():
        with untouched(network):
            network(torch.randn(4, 3))
            network.eval()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    assert_same(before, traces(network))


# --- the Sigmoid at the end of D --------------------------------------------------------------------------------------


class NamedSigmoid(nn.Module):
    """A D as in many tutorials: layers and the Sigmoid as attributes, the view at the end."""

    def __init__(self):
        super().__init__()
        self.main, self.sigmoid = mlp_D(), nn.Sigmoid()

    def forward(self, img):
        return self.sigmoid(self.main(img)).view(-1)


def in_two_places():
    D = nn.Module()
    D.end = nn.Sigmoid()
    D.main = mlp_D(D.end)
    D.forward = lambda img: D.main(img)
    return D


SIGMOIDS = {
    "at the end": lambda: mlp_D(nn.Sigmoid()),
    "nested": lambda: nn.Sequential(nn.Sequential(mlp_D(), nn.Sequential(nn.Sigmoid()))),
    "before a view": lambda: conv_D(nn.Sigmoid(), nn.Flatten(0)),
    "named": NamedSigmoid,
    "squeezed and converted": lambda: Forward(
        lambda self, img: self.end(self.net(img)).squeeze(1).to(torch.float64), net=mlp_D(), end=nn.Sigmoid()
    ),
    "one value taken": lambda: Forward(lambda self, img: self.end(self.net(img))[:, 0], net=mlp_D(), end=nn.Sigmoid()),
    "under two names": in_two_places,
    "in the middle as well": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(256, 8), nn.Sigmoid(), nn.Linear(8, 1), nn.Sigmoid()
    ),
}


@pytest.mark.parametrize("make_D", SIGMOIDS.values(), ids=SIGMOIDS)
def test_a_last_sigmoid_is_taken_off_once(make_D):
    torch.manual_seed(1)
    D, img = make_D(), torch.randn(N, 1, 16, 16)
    probabilities = D(img).detach()
    sigmoids = [module for module in D.modules() if isinstance(module, nn.Sigmoid)]
    signature = look(D=D)
    assert len(signature.notes) == 1
    assert "D ended in nn.Sigmoid" in signature.notes[0]
    torch.testing.assert_close(D(img), torch.logit(probabilities), rtol=1e-4, atol=1e-5)
    assert len([module for module in D.modules() if isinstance(module, nn.Sigmoid)]) == len(sigmoids) - 1
    assert look(D=D).notes == ()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in D.modules())


@pytest.mark.parametrize(
    "D",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Sigmoid(), nn.Linear(8, 1)),
        Forward(
            lambda self, img: self.net(img) * self.gate(img).mean((1, 2, 3))[:, None], net=mlp_D(), gate=nn.Sigmoid()
        ),
        Forward(lambda self, img: self.net(img * torch.sigmoid(img)), net=mlp_D()),
    ],
    ids=["hidden layer", "gate", "function"],
)
def test_a_sigmoid_in_the_middle_is_left_alone(D):
    img = torch.randn(N, 1, 16, 16)
    before = D(img)
    assert look(D=D).notes == ()
    assert torch.equal(D(img), before)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy


def test_a_network_may_end_in_an_autograd_function():
    """Its node has a name only as long as its graph is alive."""
    assert look(D=Forward(lambda self, img: Doubled.apply(self.net(img)), net=mlp_D())).notes == ()



@pytest.mark.parametrize(
    "function", [torch.sigmoid, F.sigmoid, torch.Tensor.sigmoid, torch.special.expit, lambda x: x.clone().sigmoid_()]
)
@pytest.mark.parametrize("gated", [False, True])
def test_a_sigmoid_inside_forward_is_skipped(function, gated):
    """The one that ran before it, in the middle, is not."""
    middle = nn.Sigmoid() if gated else nn.Identity()
    D = Forward(lambda self, img: function(self.net(self.middle(img))), net=mlp_D(), middle=middle)
    img = torch.randn(N, 1, 16, 16)
    signature = look(D=D)
    assert D.middle is middle
    assert signature.calls.last_sigmoid == int(gated)
    assert "D ends in a sigmoid: training skips it" in signature.notes[0]
    torch.testing.assert_close(signature.calls.discriminate(D, img, None), D.net(D.middle(img)))
    assert not torch.equal(D(img), D.net(D.middle(img)))  # D itself stays as it is


def test_the_last_of_two_uses_of_a_sigmoid_is_skipped():
    D = Forward(lambda self, img: self.sigmoid(self.net(self.sigmoid(img))), net=mlp_D(), sigmoid=nn.Sigmoid())
    img = torch.randn(N, 1, 16, 16)
    torch.testing.assert_close(look(D=D).calls.discriminate(D, img, None), D.net(img.sigmoid()))


# --- what networks return ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits, img: (logits, img),
        lambda logits, img: (img.flatten(1), logits, img),
        lambda logits, img: [logits],
        lambda logits, img: {"features": img, "logits": logits},
        lambda logits, img: {"features": [img], "my own name": logits},
        lambda logits, img: ((img, {"a": logits}), img),
    ],
)
def test_logits_are_found_in_what_d_returns(wrap):
    D = Forward(lambda self, img: wrap(self.net(img), img.repeat(1, 3, 1, 1)), net=mlp_D())
    img = torch.randn(N, 1, 16, 16)
    signature = look(D=D)
    assert (signature.num_judged, signature.one_pass) == (N, True)
    torch.testing.assert_close(logits_of(signature.calls.discriminate(D, img, None)), D.net(img))


@pytest.mark.parametrize("wrap", [lambda img, z: (img, z), lambda img, z: {"w": z, "img": img}])
def test_images_are_found_in_what_g_returns(wrap):
    G = Forward(lambda self, z: wrap(self.net(z), z), net=mlp_G())
    z = torch.randn(N, 6)
    signature = look(G=G)
    assert signature.img_shape == (1, 16, 16)
    torch.testing.assert_close(signature.calls.generate(G, z, None), G.net(z))


def test_a_sigmoid_at_the_end_of_g_means_images_from_0_to_1():
    signature = look(G=nn.Sequential(mlp_G(), nn.Sigmoid()))
    assert signature.img_low == 0
    assert look().img_low is None


# --- code that views tensors ------------------------------------------------------------------------------------------


class Viewing(nn.Module):
    """The end of most discriminators in public code: `view` of what convolutions give."""

    def __init__(self, end=lambda x: x):
        super().__init__()
        self.down, self.last, self.end = nn.Conv2d(3, 8, 4, 2, 1), nn.Linear(8 * 8 * 8, 1), end

    def forward(self, img):
        x = self.down(img)
        flat = x.view(x.size(0), -1)
        return self.end(self.last(flat)) if self.end else self.in_place(x, flat)

    def in_place(self, x, flat):
        flat.mul_(0.0)  # of x too, where they share memory
        return x.sum((1, 2, 3))[:, None]


def colour_G():
    return nn.Sequential(nn.Linear(6, 768), nn.Unflatten(1, (3, 16, 16)))


def test_views_behind_convolutions_keep_channels_last():
    D = Viewing()
    img = torch.randn(N, 3, 16, 16)
    expected = D(img)
    signature = look(colour_G(), nn.Sequential(nn.Dropout(), D))
    assert signature.calls.views
    assert signature.memory_format == torch.channels_last
    assert D.down.weight.is_contiguous(memory_format=torch.channels_last)
    assert "Tensor.view" in signature.notes[0]
    actual = signature.calls.discriminate(D, img.to(memory_format=torch.channels_last), None)
    torch.testing.assert_close(actual, expected)


def test_a_network_that_writes_into_its_views_trains_on_contiguous_memory():
    signature = look(colour_G(), Viewing(end=None))
    assert signature.memory_format == torch.contiguous_format
    assert "contiguous memory, which is slower" in signature.notes[0]


# --- wrappers, frozen parts -------------------------------------------------------------------------------------------


def test_wrappers_are_taken_off_and_float64_is_converted():
    network = mlp_D().double()
    inner, notes = unwrapped("D", torch.compile(nn.DataParallel(network)))
    assert inner is network
    assert next(inner.parameters()).dtype == torch.float32
    assert [note.split(" ", 3)[2] for note in notes] == ["unwrapped", "unwrapped", "float64"]
    assert unwrapped("D", inner) == (inner, ())


def test_frozen_parts_stay_in_evaluation():
    network = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout()).requires_grad_(False),
        nn.Linear(2, 2),
        nn.Dropout(),
    )
    set_training(network.eval())
    assert [module.training for module in network.modules()] == [True, False, False, False, False, True, True]


# --- packs ------------------------------------------------------------------------------------------------------------


def test_a_d_of_packs_asks_for_a_multiple():
    D = Forward(lambda self, img: self.net(img.view(-1, 3 * 256)), net=nn.Linear(3 * 256, 1))
    with pytest.raises(UserError, match="but 3 at once.*batch_size must be a multiple of 3"):
        look(D=D, batch_size=8)
    assert look(D=D, batch_size=6).num_judged == 2


# --- one pass or two --------------------------------------------------------------------------------------------------


def minibatch_std(unbiased: bool):
    def forward(self, img):
        spread = img.std(0, unbiased=unbiased).mean().expand(len(img), 1)
        return self.net(torch.cat([img.flatten(1), spread], 1))

    return Forward(forward, net=nn.Linear(257, 1))


ONE_PASS = {
    "mlp": mlp_D,
    "conv": conv_D,
    "map of logits": lambda: nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 4)),
    "instance norm": lambda: conv_D(norm=nn.InstanceNorm2d),
    "group norm": lambda: conv_D(norm=lambda channels: nn.GroupNorm(2, channels)),
    "sigmoid": lambda: conv_D(nn.Sigmoid()),
    "our batch norm": lambda: conv_D(norm=BatchNorm2d),
    "our minibatch std": lambda: nn.Sequential(MinibatchStd(4), nn.Conv2d(2, 1, 4)),
}
TWO_PASSES = {
    "batch norm": lambda: conv_D(norm=nn.BatchNorm2d),
    "both kinds of minibatch std": lambda: nn.Sequential(
        MinibatchStd(4), nn.Conv2d(2, 1, 1), minibatch_std(unbiased=False)
    ),
    "both kinds of batch norm": lambda: nn.Sequential(nn.BatchNorm2d(1), conv_D(norm=BatchNorm2d)),
    "our batch norm and minibatch std": lambda: nn.Sequential(BatchNorm2d(1), minibatch_std(unbiased=False)),
    "batch norm without buffers": lambda: conv_D(
        norm=lambda channels: nn.BatchNorm2d(channels, track_running_stats=False)
    ),
    "spectral norm": lambda: nn.Sequential(nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(256, 1))),
    "old spectral norm": lambda: nn.Sequential(nn.Flatten(), nn.utils.spectral_norm(nn.Linear(256, 1))),
    "dropout": lambda: nn.Sequential(nn.Dropout(0.1), mlp_D()),
    "dropout in evaluation mode": lambda: nn.Sequential(nn.Dropout(0.1), mlp_D()).eval(),
    "minibatch std": lambda: minibatch_std(unbiased=True),
    "minibatch std of a population": lambda: minibatch_std(unbiased=False),
    "a logit for two images": lambda: Forward(lambda self, img: self.net(img).view(-1, 2).mean(1), net=mlp_D()),
    "this batch size alone": lambda: Forward(lambda self, img: self.net(img.view(N, 1, 16, 16)), net=mlp_D()),
}


@pytest.mark.parametrize("make_D", ONE_PASS.values(), ids=ONE_PASS)
def test_images_judged_one_by_one_share_a_pass(make_D):
    torch.manual_seed(2)
    assert look(D=make_D()).one_pass


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("make_D", TWO_PASSES.values(), ids=TWO_PASSES)
def test_images_judged_together_do_not(make_D):
    torch.manual_seed(2)
    assert not look(D=make_D()).one_pass


def test_one_image_has_no_company():
    assert not look(batch_size=1).one_pass
    assert look(batch_size=3).one_pass


def test_a_d_that_compares_images_of_a_doubled_batch_alone():
    """Minibatch statistics of pairs, in batches of even size.

    D's outputs for 5 images are independent; for 10 images they depend on pairs.
    """

    def compared(self, img):
        x = self.net(img)
        return x + x.view(2, -1, 1).std(0).repeat(2, 1) if len(x) % 2 == 0 else x

    torch.manual_seed(2)
    D = Forward(compared, net=mlp_D())
    assert not look(D=D, batch_size=5).one_pass


def test_networks_of_volumes_keep_their_format():
    G = nn.Sequential(nn.Linear(6, 64), nn.Unflatten(1, (1, 4, 4, 4)))
    D = nn.Sequential(nn.Conv3d(1, 2, 4), nn.Flatten(), nn.Linear(2, 1))
    assert look(G, D).img_shape == (1, 4, 4, 4)
    assert D[0].weight.is_contiguous()
