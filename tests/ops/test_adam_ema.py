import ctypes
import itertools

import pytest
import torch
from checking import assert_close_to_truth
from torch._dynamo.testing import CompileCounter
from torch._inductor.utils import run_and_get_code
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan.errors import UserError
from fastgan.ops.adam_ema import (
    AdamState,
    adam_ema,
    adam_ema_native,
    adam_ema_reference,
    after_steps,
    forms,
    self_check,
)
from fastgan.ops.dispatch import autotune, registry

SHAPES = [(1,), (), (7,), (3, 5), (2, 3, 4, 4), (130, 257), (0, 4)]
ISAS = (0, 1, 2, 3)  # Isa of csrc/cpu_features.h


def tensors(seed: int, dtype=torch.float32, shapes=SHAPES, memory_format=torch.contiguous_format) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    return [tensor.contiguous(memory_format=memory_format) if tensor.ndim == 4 else tensor for tensor in made]


def new_state(averaged=False, betas=(0.5, 0.999), lr=1e-3, eps=1e-8, **options) -> AdamState:
    parameters, average = tensors(0, **options), tensors(1, **options) if averaged else []
    exp_avg, exp_avg_sq = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    one, ema_beta = torch.tensor(1.0), torch.tensor(0.9) if averaged else None
    return AdamState(
        parameters,
        exp_avg,
        exp_avg_sq,
        average,
        one,
        one.clone(),
        *(torch.tensor(x) for x in (lr, *betas)),
        ema_beta,
        eps,
    )


@pytest.fixture
def native():
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    return adam_ema_native


@pytest.fixture(params=["reference", "cpu"])
def form(request):
    """Return each implementation that runs here."""
    if request.param == "cpu" and registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    return forms(new_state())[request.param]


@pytest.fixture
def forced(native):
    """Force the CPU kernel in the public function, without measuring."""
    autotune.force({"adam_ema": "cpu"})
    yield
    autotune.force({"adam_ema": "auto"})


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class OpsCalled(TorchDispatchMode):
    """Records the names of the operators that run inside."""

    def __enter__(self):
        self.names = []
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


# --- the result of a step -------------------------------------------------------------------------


def test_the_first_step_is_lr_times_the_sign_of_the_gradient_and_the_average_follows_it(form):
    state = new_state(averaged=True, lr=0.1, eps=1e-12, shapes=[(4,)])._replace(
        parameters=[torch.zeros(4)], average=[torch.ones(4)]
    )
    form([torch.tensor([3.0, -0.2, 1e-3, -40.0])], state)
    moved = torch.tensor([-0.1, 0.1, -0.1, 0.1])
    torch.testing.assert_close(state.parameters[0], moved)
    torch.testing.assert_close(state.average[0], 0.9 + 0.1 * moved)
    torch.testing.assert_close([state.beta1_power, state.beta2_power], [state.beta1, state.beta2])


def test_zero_gradients_move_nothing_and_make_no_nan(form):
    state = new_state(averaged=True)
    before = [parameter.clone() for parameter in state.parameters]
    for _ in range(3):
        form([torch.zeros_like(parameter) for parameter in before], state)
    for parameter, same, average in zip(state.parameters, before, state.average, strict=True):
        assert torch.equal(parameter, same)
        assert bool(average.isfinite().all())


def test_a_nan_in_a_gradient_stays_where_it_is(form):
    state = new_state()
    gradients = tensors(2)
    gradients[3][1, 2] = torch.nan
    form(gradients, state)
    assert [int(parameter.isnan().sum()) for parameter in state.parameters] == [0, 0, 0, 1, 0, 0, 0]


def test_with_an_ema_beta_of_zero_the_average_is_the_parameters(form):
    state = new_state(averaged=True)
    state.ema_beta.zero_()
    form(tensors(2), state)
    torch.testing.assert_close(state.average, state.parameters)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.999), (0.0, 0.99)])
def test_equals_torch_over_20_steps(form, betas):
    state = new_state(betas=betas)
    theirs = [parameter.clone().requires_grad_() for parameter in state.parameters]
    optimizer = torch.optim.Adam(theirs, 1e-3, betas, 1e-8)
    for step in range(20):
        gradients = [gradient * 10.0 ** (step % 7 - 5) for gradient in tensors(step)]
        form(gradients, state)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    torch.testing.assert_close(state.parameters, [parameter.detach() for parameter in theirs], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_kernel_is_as_close_to_the_truth_as_the_reference(native, threads, averaged, dtype, memory_format):
    state = new_state(averaged, memory_format=memory_format)
    check_three_way(native, state, [tensors(seed, dtype, memory_format=memory_format) for seed in range(2, 7)])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_version_of_the_kernel_is_right(native, isa, averaged, dtype):
    library = ctypes.CDLL(str(registry.library_path()))
    if library.fastgan_limit_isa(isa) != isa:
        library.fastgan_limit_isa(ISAS[-1])
        pytest.skip("this chip has no such instructions")
    try:
        check_three_way(native, new_state(averaged), [tensors(seed, dtype) for seed in (2, 3)])
    finally:
        library.fastgan_limit_isa(ISAS[-1])


@pytest.mark.parametrize("size", [1, 15, 16, 17, 63, 16383, 16385, 40000])
def test_no_element_is_left_out_or_updated_twice(native, threads, size):
    """Every element of every tensor moves by lr in the first step.

    This holds wherever threads and vectors begin and end.
    """
    state = new_state(shapes=[(size,), (3,), (size,)], lr=1.0, eps=1e-12)
    before = [parameter.clone() for parameter in state.parameters]
    native([torch.ones_like(parameter) for parameter in before], state)
    for parameter, start in zip(state.parameters, before, strict=True):
        torch.testing.assert_close(start - parameter, torch.ones_like(start))


def check_three_way(form, state: AdamState, gradients: list[list[torch.Tensor]]) -> None:
    ours, reference = (after_steps(each, torch.float32, state, gradients) for each in (form, adam_ema_reference))
    for name, truth in after_steps(adam_ema_reference, torch.float64, state, gradients).items():
        assert_close_to_truth(ours[name], reference[name], truth)


# --- memory ---------------------------------------------------------------------------------------


def test_gradients_in_another_memory_order_arrive_where_they_belong(native):
    state, twin = (new_state(memory_format=torch.channels_last) for _ in range(2))
    contiguous, channels_last = tensors(2), tensors(2, memory_format=torch.channels_last)
    assert contiguous[4].stride() != channels_last[4].stride()
    native(contiguous, state)
    native(channels_last, twin)
    torch.testing.assert_close(state.parameters, twin.parameters, rtol=0, atol=0)


def test_transposed_parameters_fit_and_strided_ones_run_the_reference(native):
    assert "cpu" in forms(
        new_state()._replace(**{name: [torch.ones(3, 5).t()] for name in ("parameters", "exp_avg", "exp_avg_sq")})
    )
    state = new_state()._replace(
        parameters=[torch.zeros(6)[::2]], exp_avg=[torch.zeros(3)], exp_avg_sq=[torch.zeros(3)]
    )
    assert list(forms(state)) == ["reference"]
    adam_ema([torch.ones(3)], state)
    torch.testing.assert_close(state.parameters[0], torch.full((3,), -1e-3))


def test_the_kernel_makes_no_tensor(native):
    """Gradients in float32 or bfloat16 that lie like their parameters are read in place."""
    for dtype in (torch.float32, torch.bfloat16):
        with OpsCalled() as called:
            native(
                tensors(2, dtype, memory_format=torch.channels_last),
                new_state(averaged=True, memory_format=torch.channels_last),
            )
        steps = list(itertools.dropwhile(lambda name: name != "fastgan::adam_ema", called.names))
        assert steps == ["fastgan::adam_ema"]


def test_an_update_is_seen_by_autograd(form):
    """A graph that needs the old value of a parameter raises an error.

    It does so after torch's own operations as well.
    """
    state = new_state(shapes=[(3,)])
    parameter = state.parameters[0].requires_grad_()
    loss = parameter.square().sum()
    with torch.no_grad():
        form([torch.ones(3)], state)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, parameter)


# --- the choice of implementation -----------------------------------------------------------------


def test_a_forced_kernel_runs_in_eager_code(forced):
    with OpsCalled() as called:
        adam_ema(tensors(2), new_state())
    assert called.names[-1] == "fastgan::adam_ema"


def test_what_is_not_known_to_be_faster_is_the_reference():
    with OpsCalled() as called:
        adam_ema(tensors(2), new_state())
    assert "fastgan::adam_ema" not in called.names


def test_measuring_changes_nothing_but_what_one_step_changes(native):
    state, twin = new_state(averaged=True), new_state(averaged=True)
    with autotune.measuring():
        adam_ema(tensors(2), state)
    adam_ema_reference(tensors(2), twin)
    torch.testing.assert_close(tuple(state)[:9], tuple(twin)[:9])


def test_compiled_code_is_one_graph_of_the_reference():
    shapes = [(3, 5), (17,)]  # few, because each takes the compiler a while
    state, twin = new_state(averaged=True, shapes=shapes), new_state(averaged=True, shapes=shapes)
    _, (code,) = run_and_get_code(
        torch.compile(lambda gradients: adam_ema(gradients, state), fullgraph=True), tensors(2, shapes=shapes)
    )
    assert "fastgan.adam_ema" not in code
    adam_ema_reference(tensors(2, shapes=shapes), twin)
    torch.testing.assert_close(tuple(state)[:9], tuple(twin)[:9])


def test_a_forced_kernel_is_in_the_compiled_graph(forced):
    state, twin = new_state(averaged=True), new_state(averaged=True)
    _, (code,) = run_and_get_code(
        torch.compile(lambda gradients: adam_ema(gradients, state), fullgraph=True), tensors(2)
    )
    assert "fastgan.adam_ema" in code
    adam_ema_reference(tensors(2), twin)
    torch.testing.assert_close(tuple(state)[:9], tuple(twin)[:9])


def test_compiled_code_stays_as_it_was_traced_when_another_kernel_is_forced(native, monkeypatch):
    monkeypatch.setattr(autotune, "_forced", {})
    state, counter = new_state(), CompileCounter()
    step = torch.compile(lambda gradients: adam_ema(gradients, state), fullgraph=True, backend=counter)
    step(tensors(2))
    autotune.force({"adam_ema": "cpu"})
    step(tensors(2))
    assert counter.frame_count == 1


def test_the_operator_compiles_into_a_graph_without_a_copy(native):
    state, twin = new_state(averaged=True), new_state(averaged=True)
    step = torch.compile(lambda gradients: torch.ops.fastgan.adam_ema.default(gradients, *state), fullgraph=True)
    _, (code,) = run_and_get_code(step, tensors(2))
    assert code.count("torch.ops.fastgan.adam_ema.default(") == 1
    body = code[code.index("def call") :]
    assert not any(word in body for word in ("empty_strided", "clone", "copy_", "cpp_fused"))
    native(tensors(2), twin)
    torch.testing.assert_close(tuple(state)[:9], tuple(twin)[:9], rtol=0, atol=0)


def test_the_check_on_first_use_passes_and_finds_what_is_wrong(native, monkeypatch):
    assert self_check("cpu", torch.device("cpu")) is None
    monkeypatch.setattr(
        "fastgan.ops.adam_ema.adam_ema_native",
        lambda gradients, state: adam_ema_reference(gradients, state._replace(eps=1e-2)),
    )
    assert "parameters" in self_check("cpu", torch.device("cpu"))


# --- rejected arguments ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"exp_avg": []}, {"exp_avg_sq": tensors(0)[1:]}, {"average": tensors(0)[:2], "ema_beta": torch.tensor(0.5)}],
)
def test_lists_of_other_lengths_are_refused(change):
    with pytest.raises(UserError, match="one of each for every parameter"):
        adam_ema(tensors(2), new_state()._replace(**change))


def test_empty_lists_are_refused():
    with pytest.raises(UserError, match="one parameter or more"):
        adam_ema([], new_state(shapes=[]))


def test_another_number_of_gradients_is_refused():
    with pytest.raises(UserError, match="there are 6 gradients"):
        adam_ema(tensors(2)[1:], new_state())


@pytest.mark.parametrize("change", [{"ema_beta": torch.tensor(0.9)}, {"average": tensors(1)}])
def test_an_average_needs_its_beta_and_a_beta_its_average(change):
    with pytest.raises(UserError, match="both or neither"):
        adam_ema(tensors(2), new_state()._replace(**change))


@pytest.mark.parametrize("field", ["gradients", "exp_avg", "exp_avg_sq", "average"])
def test_another_shape_is_refused_with_the_number_of_the_parameter(field):
    state, gradients = new_state(averaged=True), tensors(2)
    (gradients if field == "gradients" else getattr(state, field))[3] = torch.zeros(5, 3)
    with pytest.raises(UserError, match=r"parameter 3 is \[3, 5\]"):
        adam_ema(gradients, state)


@pytest.mark.parametrize("wrong", ["short list", "dtype", "strides", "no beta"])
def test_the_operator_itself_refuses_what_would_read_outside_memory(native, wrong):
    state, gradients = new_state(averaged=True), tensors(2)
    if wrong == "short list":
        state.exp_avg.pop()
    elif wrong == "dtype":
        state.exp_avg_sq[3] = state.exp_avg_sq[3].double()
    elif wrong == "strides":
        gradients[3] = gradients[3].t().contiguous().t()
    else:
        state = state._replace(ema_beta=None)
    before = state.parameters[5].clone()
    with pytest.raises(RuntimeError, match="fastgan::adam_ema"):
        torch.ops.fastgan.adam_ema(gradients, *state)
    assert torch.equal(state.parameters[5], before)
    assert state.beta1_power.item() == 1


# --- on a GPU -------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_triton_is_as_close_to_the_truth_as_the_reference(averaged, dtype):
    state, gradients = (
        on_gpu(new_state(averaged)),
        [[gradient.cuda() for gradient in tensors(seed, dtype)] for seed in (2, 3)],
    )
    check_three_way(forms(state)["triton"], state, gradients)


@pytest.mark.gpu
def test_triton_can_be_recorded_in_a_cuda_graph():
    state, twin, gradients = (
        on_gpu(new_state(True)),
        on_gpu(new_state(True)),
        [gradient.cuda() for gradient in tensors(2)],
    )
    triton = forms(state)["triton"]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        triton(gradients, on_gpu(new_state(True)))  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        triton(gradients, state)
    for _ in range(3):
        graph.replay()
        triton(gradients, twin)
    torch.testing.assert_close(tuple(state)[:9], tuple(twin)[:9], rtol=0, atol=0)


def on_gpu(state: AdamState) -> AdamState:
    return torch.utils._pytree.tree_map(lambda leaf: leaf.cuda() if isinstance(leaf, torch.Tensor) else leaf, state)
