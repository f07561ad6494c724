"""The controller of ADA against plain Python."""
import pytest
import torch

from fastgan.ada_controller import AdaController


def simulate(all_logits, target, ada_kimg, every):
    """p after each step, the way the paper tells it; all_logits: a list of lists for each step."""
    p, signs, history = 0.0, [], []
    for step, logits in enumerate(all_logits):
        signs += [(logit > 0) - (logit < 0) for logit in logits]
        if step % every == every - 1:
            mean = sum(signs) / len(signs)
            p = min(max(p + ((mean > target) - (mean < target)) * len(signs) / (1000 * ada_kimg), 0), 1)
            signs = []
        history.append(p)
    return history


@pytest.mark.parametrize(("target", "ada_kimg", "every", "shift"), [(0.6, 0.5, 4, 1.0), (0.6, 0.1, 4, 3.0), (0.0, 0.2, 3, 0.0), (0.6, 0.5, 1, -3.0)])
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
