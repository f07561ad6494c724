"""BigGAN in both its forms, in widths that run in milliseconds."""
import pytest
import torch
from model_checks import check_gradients_reach_every_parameter, check_one_graph, check_penalty
from torch import nn

from fastgan.errors import UserError
from fastgan.models.biggan import Discriminator, Generator, SelfAttention
from fastgan.models.res_blocks import flat_widths, tapered_widths
from fastgan.nn.norms import ClassBatchNorm2d, Spectral

C_DIM = 3


def make(form: str, c_dim: int = C_DIM, init: str = "normal") -> tuple[Generator, Discriminator]:
    """Make G and D of 16x16 images: `shared` or `plain`.

    `shared` is as for 128x128, with attention at 8x8; `plain` as for CIFAR-10.
    """
    torch.manual_seed(0)
    attention, shared_dim = (8, 4) if form == "shared" else (0, 0)
    G = Generator(tapered_widths(16, 8), 3, 6, c_dim, shared_dim, attention, init)
    return G, Discriminator((8, 16, 16), 2, 16, 3, c_dim, attention, init)


forms = pytest.mark.parametrize("form", ["shared", "plain"])


@forms
@pytest.mark.parametrize("c_dim", [C_DIM, 0])
def test_images_and_logits(form, c_dim):
    G, D = make(form, c_dim)
    z, c = torch.randn(2, 6), torch.tensor([0, 2]) if c_dim else None
    img = G(z, c)
    assert img.shape == (2, 3, 16, 16)
    assert -1 <= img.min() < img.max() <= 1
    assert D(img, c).shape == (2,)


@forms
def test_the_class_changes_image_and_logit(form):
    G, D = (network.eval() for network in make(form, init="orthogonal"))
    z, img, zeros, twos = (
        torch.randn(3, 6),
        torch.randn(3, 3, 16, 16),
        torch.zeros(3, dtype=torch.int64),
        torch.full((3,), 2),
    )
    assert (G(z, zeros) - G(z, twos)).abs().max() > 0.01 * G(z, zeros).abs().max()
    assert not torch.equal(D(img, zeros), D(img, twos))


@forms
def test_gradients_reach_every_parameter(form):
    state = make(form)
    for network in state:
        for module in network.modules():
            if isinstance(module, SelfAttention):
                nn.init.ones_(module.strength)
    check_gradients_reach_every_parameter(*state, torch.randn(4, 6), torch.tensor([0, 1, 2, 1]))


@forms
def test_a_penalty_has_the_right_gradient(form):
    _, D = make(form, init="orthogonal")
    for module in D.modules():
        if isinstance(module, SelfAttention):
            nn.init.ones_(module.strength)
    check_penalty(D, torch.randn(2, 3, 16, 16), torch.tensor([0, 2]))


def test_a_penalised_step_is_one_graph():
    torch.manual_seed(0)
    D = Discriminator((8,), 1, 8, 3, C_DIM, attention=4)
    nn.init.ones_(D.layers[1].strength)
    check_one_graph(D, torch.randn(2, 3, 8, 8), torch.tensor([0, 2]))


def test_every_scale_has_its_part_of_z():
    """A part changes what its block and later ones make, and nothing before."""
    G, _ = make("shared", init="orthogonal")
    G.eval()
    z, c = torch.randn(2, 6), torch.tensor([0, 2])
    seen: list[torch.Tensor] = []
    for block in G.blocks:
        block.register_forward_hook(lambda module, args, output: seen.append(output))
    G(z, c)
    for part in range(3):
        changed = z.clone()
        changed[:, 2 * part] += 1
        seen[2:] = []
        G(changed, c)
        same = [torch.equal(before, after) for before, after in zip(seen[:2], seen[2:], strict=True)]
        assert same == [index < part - 1 for index in range(2)] if part else not any(same)


def test_a_z_that_has_no_equal_parts_is_refused():
    with pytest.raises(UserError, match="z_dim 7 cannot be cut into 3 equal parts"):
        Generator(tapered_widths(16, 8), z_dim=7)


@pytest.mark.parametrize(("make_network", "num_in_source"), [
    (lambda: Generator(tapered_widths(128, 96), init="normal"), 70_433_988),
    (lambda: Discriminator((96, 192, 384, 768, 1536, 1536), 5, 128, init="normal"), 87_982_370),
    (lambda: Generator(flat_widths(32, 256), z_dim=128, c_dim=10, shared_dim=0, attention=0, init="normal"), 4_304_387),
    (lambda: Discriminator((256,) * 4, 2, 32, c_dim=10, attention=0, init="normal"), 4_207_361),
])  # fmt: skip
def test_numbers_of_parameters(make_network, num_in_source):
    with torch.device("meta"):
        network = make_network()
    assert sum(parameter.numel() for parameter in network.parameters()) == num_in_source


@forms
def test_every_weight_but_those_of_gs_embeddings_is_spectrally_normalised(form):
    for network in make(form):
        wrapped = {id(module.layer.weight) for module in network.modules() if isinstance(module, Spectral)}
        embeddings = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
        left = embeddings if isinstance(network, Generator) else set()
        assert wrapped == {id(parameter) for parameter in network.parameters() if parameter.ndim > 1} - left
        assert {module.eps for module in network.modules() if isinstance(module, Spectral)} == {1e-6}


def test_where_attention_sits():
    G = Generator(tapered_widths(32, 8), z_dim=8, c_dim=C_DIM, shared_dim=2, attention=16)
    assert [isinstance(layer, SelfAttention) for layer in G.attentions] == [False, True, False]
    D = Discriminator((8,) * 4, 2, 32, c_dim=C_DIM, attention=8)
    assert [isinstance(layer, SelfAttention) for layer in D.layers] == [False, False, True, False, False]


def test_orthogonal_weights():
    G, D = make("shared", init="orthogonal")
    for weight in (G.blocks[0].conv2.layer.weight, D.head.embed.layer.weight, G.embed.weight):
        rows = weight.detach().flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-5, rtol=0)
    assert not any(module.strength for module in G.modules() if isinstance(module, SelfAttention))


def test_normal_weights():
    G, _ = make("plain", init="normal")
    weight = G.input.layer.weight
    assert weight.std().item() == pytest.approx(0.02, rel=5 * (2 * weight.numel()) ** -0.5)
    norms = [module for module in G.modules() if isinstance(module, ClassBatchNorm2d)]
    assert len(norms) == 4
    assert all(norm.class_gain.weight.std() < 0.03 for norm in norms)


# --- self-attention ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(2, 4), (4, 2)])
def test_attention_is_a_mean_of_values_by_similarity(height, width):
    torch.manual_seed(0)
    layer, x = SelfAttention(8), torch.randn(2, 8, height, width)
    assert torch.equal(layer(x), x)
    nn.init.constant_(layer.strength, 0.5)
    query, key, value = (
        layer.query(x),
        nn.functional.max_pool2d(layer.key(x), 2),
        nn.functional.max_pool2d(layer.value(x), 2),
    )
    similarity = torch.einsum("nchw,ncij->nhwij", query, key)
    weights = torch.softmax(similarity.flatten(3), 3).view_as(similarity)
    expected = x + 0.5 * layer.output(torch.einsum("nhwij,ncij->nchw", weights, value))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
