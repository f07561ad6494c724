"""Channel sums of a graph, combined into few launches before the compiler takes it.

The gradient of a bias is the sum of a whole image's gradient. The compiler launches two kernels for
each, the second of which adds the partial sums of the first, and can fuse neither with the
convolutions around them. Only the optimiser needs the results, so the sums can be deferred, and
kernels/channel_sums.py computes all of one dtype at once. r3gan-tiny has 167 launches of the
compiler's and ours instead of 195, stylegan2-tiny 256 instead of 280.
"""

from collections.abc import Iterator

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph, Node

from fastgan.ops.channel_sums import DTYPES
from fastgan.ops.dispatch import autotune, self_checks

aten = torch.ops.aten
# Operations on a sum alone, which may be deferred with it.
FORMS = (
    aten._to_copy.default, torch.ops.prims.convert_element_type.default, aten.view.default, aten.reshape.default,
    aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default, aten.unsqueeze.default, aten.alias.default,
)  # fmt: skip
MOST_BYTES = 64 << 20  # of gradients that a launch keeps alive longer than necessary; larger ones are not deferred
MOST_TENSORS = 24  # of a launch: each has code of its own in the kernel
MOST_CHANNELS = 2**16  # of a launch: half of the limit by the kernel's tickets


class SumsTogether(CustomGraphPass):
    """Pass of Inductor over CUDA tensors: combines channel sums that can be deferred."""

    def __call__(self, graph: Graph) -> None:
        """Change the graph in place.

        Its nodes are aten operations with the tensors that they give in meta["val"].
        """
        sums = [node for node in graph.nodes if _is_channel_sum(node)]
        if not sums or _problem() is not None:
            return
        for nodes in _groups(graph, sums):
            _put_together(graph, nodes)

    def uuid(self) -> bytes:
        """Return the key for Inductor's cache, which tells if the kernel is used."""
        return get_hash_for_files((__file__,), extra=str(_problem()))


def _problem() -> str | None:
    if autotune.forced("channel_sums") == autotune.REFERENCE:
        return "turned off"
    return self_checks.problem("channel_sums", "triton", "cuda")


def _is_channel_sum(node: Node) -> bool:
    """Return True if a node sums all dimensions but the second of a CUDA tensor.

    The tensor must lie in memory as [rows, C].
    """
    if node.op != "call_function" or node.target is not aten.sum.dim_IntList or node.kwargs:
        return False
    x = node.args[0].meta["val"]
    if not x.is_cuda or x.dtype not in DTYPES or x.ndim not in (2, 4) or x.numel() * x.element_size() > MOST_BYTES:
        return False
    is_dense = x.is_contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x.is_contiguous()
    return is_dense and {dim % x.ndim for dim in node.args[1]} == {0, *range(2, x.ndim)}


def _groups(graph: Graph, sums: list[Node]) -> Iterator[list[Node]]:
    """Yield groups of sums of one dtype that no node uses before the last sum of the group."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    for dtype in DTYPES:
        group: list[Node] = []
        for node in (node for node in sums if node.meta["val"].dtype == dtype):
            waits = min((order[user] for each in group for user in _users(each)), default=len(order))
            if order[node] > waits or not _fit([*group, node]):
                yield from [group] if len(group) > 1 else []
                group = []
            group.append(node)
        yield from [group] if len(group) > 1 else []


def _forms(node: Node) -> list[Node]:
    """Return the casts and views of the sum, and recursively of these, in order."""
    forms = [user for user in node.users if user.target in FORMS]
    return [each for form in forms for each in (form, *_forms(form))]


def _users(node: Node) -> Iterator[Node]:
    """Yield the nodes that use the sum, or a cast or view of it."""
    for each in (node, *_forms(node)):
        yield from (user for user in each.users if user.target not in FORMS)


def _fit(nodes: list[Node]) -> bool:
    tensors = [node.args[0].meta["val"] for node in nodes]
    bytes_waiting = sum(x.numel() * x.element_size() for x in tensors)
    channels = sum(x.shape[1] for x in tensors)
    return len(nodes) <= MOST_TENSORS and bytes_waiting <= MOST_BYTES and channels <= MOST_CHANNELS


def _put_together(graph: Graph, nodes: list[Node]) -> None:
    """Compute all sums in the place of the last one; each becomes a slice of the result."""
    with graph.inserting_after(nodes[-1]):
        together = graph.call_function(torch.ops.fastgan.channel_sums.default, ([node.args[0] for node in nodes],))
    values = [node.meta["val"] for node in nodes]
    together.meta["val"] = values[0].new_empty(sum(value.numel() for value in values))
    before, end = together, 0
    for node, value in zip(nodes, values, strict=True):
        start, end = end, end + value.numel()
        with graph.inserting_after(before):
            piece = graph.call_function(aten.slice.Tensor, (together, 0, start, end))
        piece.meta["val"] = value.new_empty(value.numel())
        with graph.inserting_after(piece):
            before = graph.call_function(aten.view.default, (piece, list(value.shape)))
        before.meta["val"] = value
        forms = _forms(node)
        node.replace_all_uses_with(before)
        graph.erase_node(node)
        for form in forms:
            before.append(form)
            before = form
