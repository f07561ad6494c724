"""ADA: its transforms, and the adaptation of their probability."""
import pytest
import torch

from fastgan.augment.ada import GROUPS, AdaController, ada_augment, num_uniforms
from fastgan.errors import UserError

ALL = tuple(GROUPS)
CHOICES = [(), *((name,) for name in GROUPS), ("blit", "geometry"), ALL]
SHAPES = [(1, 1, 1, 1), (2, 3, 16, 16), (2, 5, 7, 12), (2, 1, 1, 9)]


def random_numbers(img, groups):
    return torch.rand(len(img), num_uniforms(groups))


def test_the_number_of_random_numbers_adds_up():
    assert num_uniforms(()) == 0
    assert num_uniforms(ALL) == sum(num_uniforms((name,)) for name in GROUPS) == 31


def test_an_unknown_group_is_named():
    with pytest.raises(UserError, match="no group 'color'; choose from blit, geometry, colour, cutout"):
        num_uniforms(("color",))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", CHOICES)
def test_nothing_happens_with_probability_zero(shape, groups):
    img = torch.randn(shape)
    same = ada_augment(img, random_numbers(img, groups), torch.tensor(0.0), groups)
    torch.testing.assert_close(same, img, rtol=0, atol=5e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", CHOICES)
def test_shape_dtype_and_format_stay(shape, memory_format, dtype, groups):
    img = torch.randn(shape).to(dtype).contiguous(memory_format=memory_format)
    augmented = ada_augment(img, random_numbers(img, groups), torch.tensor(1.0), groups)
    assert (augmented.shape, augmented.dtype, augmented.stride()) == (img.shape, img.dtype, img.stride())
    assert torch.isfinite(augmented).all()


def test_blit_alone_copies_pixels_and_agrees_with_blit_before_a_geometry_that_does_nothing():
    img, uniform = torch.randn(64, 3, 16, 16), torch.rand(64, 18)
    uniform[:, [7, 9, 11, 13, 15]] = 1.0  # none of the five deformations happens
    blitted = ada_augment(img, uniform[:, :7], torch.tensor(0.9), ("blit",))
    assert set(blitted.unique().tolist()) <= set(img.unique().tolist())
    assert not torch.equal(blitted, img)
    torch.testing.assert_close(
        ada_augment(img, uniform, torch.tensor(0.9), ("blit", "geometry")), blitted, rtol=0, atol=5e-6
    )


def test_each_group_gets_its_own_random_numbers_whatever_the_order_of_the_names():
    img, uniform, p = torch.randn(4, 3, 8, 8), torch.rand(4, 31), torch.tensor(0.7)
    together = ada_augment(img, uniform, p, ALL[::-1])
    apart = ada_augment(img, uniform[:, :18], p, ("blit", "geometry"))
    apart = ada_augment(apart, uniform[:, 18:28], p, ("colour",))
    assert torch.equal(together, ada_augment(apart, uniform[:, 28:], p, ("cutout",)))


@pytest.mark.parametrize("size", [1, 7, 16])
def test_cutout_erases_half_of_each_side_of_a_share_p_of_the_images(size):
    uniform = torch.rand(2000, 3, generator=torch.Generator().manual_seed(2))
    uniform[:1000, 1:] = 0.5
    cut = ada_augment(torch.ones(2000, 1, size, size), uniform, torch.tensor(0.3), ("cutout",)) == 0
    erased = cut.any(3).sum((1, 2))
    assert erased[:1000].unique().tolist() in ([0, size // 2], [0, (size + 1) // 2])
    assert torch.equal(erased[:1000] > 0, uniform[:1000, 0] < 0.3)
    assert (erased[1000:] <= (size + 1) // 2).all()


@pytest.mark.parametrize("groups", CHOICES[1:])
def test_the_gradient_is_exact(groups):
    uniform, p = torch.rand(2, num_uniforms(groups)), torch.tensor(0.8)
    img = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda img: ada_augment(img, uniform, p, groups), [img])


@torch._dynamo.config.patch(trace_autograd_ops=True)
def test_one_graph_with_the_gradient_that_a_generator_gets():
    def step(img, uniform, p):
        fake_img = img.detach().requires_grad_()
        return torch.autograd.grad(ada_augment(fake_img, uniform, p, ALL).square().sum(), [fake_img])[0]

    img, uniform, p = (
        torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last),
        torch.rand(2, 31),
        torch.tensor(0.7),
    )
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(img, uniform, p), step(img, uniform, p), rtol=1e-4, atol=1e-4)


def simulate(all_logits, target, ada_kimg, every):
    """Return p after each step, as the paper describes it.

    all_logits: a list of lists for each step.
    """
    p, diagnostics, history = 0.0, [], []
    for step, logits in enumerate(all_logits):
        diagnostics += [(logit > 0) - (logit < 0) for logit in logits]
        if step % every == every - 1:
            mean = sum(diagnostics) / len(diagnostics)
            p = min(max(p + ((mean > target) - (mean < target)) * len(diagnostics) / (1000 * ada_kimg), 0), 1)
            diagnostics = []
        history.append(p)
    return history


@pytest.mark.parametrize(
    ("target", "ada_kimg", "every", "shift"),
    [(0.6, 0.5, 4, 1.0), (0.6, 0.1, 4, 3.0), (0.0, 0.2, 3, 0.0), (0.6, 0.5, 1, -3.0)],
)
def test_p_follows_the_plain_simulation(target, ada_kimg, every, shift):
    logits = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)) + shift
    logits[20:40] -= 2
    controller, history = AdaController("cpu", target, ada_kimg, every), []
    for each in logits:
        controller.update(each)
        history.append(controller.p.item())
    assert history == pytest.approx(simulate(logits.tolist(), target, ada_kimg, every), abs=1e-6)
    assert min(history) >= 0
    assert max(history) <= 1


def test_it_takes_ada_kimg_from_none_to_all():
    controller = AdaController("cpu")
    for _ in range(500):
        controller.update(torch.ones(100, 1))
    assert controller.p.item() == pytest.approx(0.1, abs=1e-5)


def test_an_image_of_several_logits_counts_once():
    controller = AdaController("cpu", target=0.5, ada_kimg=1.0, every=1)
    controller.update(torch.tensor([[1.0, 1.0, 1.0, -1.0], [2.0, 3.0, -1.0, 4.0]]))  # mean signs 1/2 and 1/2: on target
    assert controller.p.item() == 0
    controller.update(torch.ones(2, 5, 5))
    assert controller.p.item() == pytest.approx(2 / 1000)


def test_the_state_changes_in_place_and_continues_a_run():
    first, second = AdaController("cpu", ada_kimg=0.1), AdaController("cpu", ada_kimg=0.1)
    tensors = list(first.state().values())
    assert list(first.state()) == ["p", "sign_sum", "num"]
    for _ in range(6):
        first.update(torch.ones(4))
    assert [tensor.item() for tensor in tensors] == pytest.approx([0.16, 8, 8])
    for name, tensor in second.state().items():
        tensor.copy_(first.state()[name])
    for _ in range(2):
        first.update(torch.ones(4))
        second.update(torch.ones(4))
    assert first.state() == second.state()
    assert first.p.item() == pytest.approx(0.32)


def test_updates_are_one_graph_without_host_values_and_leave_no_gradient_behind():
    eager, traced = AdaController("cpu", ada_kimg=0.1), AdaController("cpu", ada_kimg=0.1)
    update = torch.compile(traced.update, backend="aot_eager", fullgraph=True, dynamic=False)
    for step in range(9):
        logits = (torch.randn(4, generator=torch.Generator().manual_seed(step)) + 1).requires_grad_()
        eager.update(logits)
        update(logits)
    assert eager.state() == traced.state()
    assert not any(tensor.requires_grad for tensor in eager.state().values())
