"""Removal of zeros that autograd computes with, before a graph is compiled.

A gradient penalty differentiates D's input gradient. In a D of convolutions and (leaky) ReLUs this
gradient depends on the features only through their signs: the second derivative of such an
activation is 0. Autograd represents that 0 as a tensor, and propagates it back through all of D: an
input gradient and a weight gradient a layer, of products with zeros (5 of the 17 convolutions of a
penalty in three layers). Compilers do not know that a convolution of zeros gives zeros; this pass
does. The only change of results is that 0 times an infinity is 0 here.
"""
import torch
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph, Node

aten = torch.ops.aten

# Operations that make zeros of zeros, by the arguments that have to be zero.
MADE_BY = (aten.zeros_like.default, aten.zeros.default, aten.new_zeros.default)
# Operation -> index of the fill value among its arguments.
FILLED = {aten.scalar_tensor.default: 0, aten.full.default: 1, aten.full_like.default: 1, aten.new_full.default: 2}
OF_THE_FIRST = (
    aten.alias.default, aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.permute.default,
    aten.transpose.int, aten.t.default, aten.expand.default, aten.slice.Tensor, aten.select.int, aten.squeeze.dim,
    aten.squeeze.dims, aten.unsqueeze.default, aten.clone.default, aten.neg.default, aten.sum.default,
    aten.sum.dim_IntList, aten.mean.default, aten.mean.dim, aten._to_copy.default,
    torch.ops.prims.convert_element_type.default, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar,
    aten.threshold_backward.default, aten.leaky_relu_backward.default,
)  # fmt: skip
OF_EITHER = (aten.mul.Tensor, aten.mm.default, aten.bmm.default)
OF_BOTH = {aten.add.Tensor: (0, 1), aten.sub.Tensor: (0, 1), aten.where.self: (1, 2)}  # the arguments


class ZerosTakenOut(CustomGraphPass):
    """Pass of Inductor, before its own passes, that removes computations with zeros.

    It drops the zero terms of sums, replaces other zeros by constants and removes the operations
    that computed them.
    """

    def __call__(self, graph: Graph) -> None:
        """Change the graph in place.

        Its nodes are aten operations with the tensors that they give in meta["val"].
        """
        zeros: set[object] = set()
        for node in list(graph.nodes):
            if node.op != "call_function":
                continue
            if _is_zero(node, zeros):
                zeros |= {node, _written_down(graph, node)}
            elif (other := _other_term(node, zeros)) is not None:
                node.replace_all_uses_with(other)
        graph.eliminate_dead_code()

    def uuid(self) -> bytes:
        """Return the key for Inductor's cache."""
        return get_hash_for_files((__file__,))


def _is_zero(node: Node, zeros: set[object]) -> bool:
    """Return True if the arguments of a node make every number of its result 0."""
    target, args, is_zero = node.target, node.args, zeros.__contains__
    if target in MADE_BY:
        return True
    if target in FILLED:
        return _number(args[FILLED[target]]) == 0
    if target in OF_THE_FIRST:
        return is_zero(args[0])
    if target in OF_EITHER:
        return is_zero(args[0]) or is_zero(args[1])
    if target in OF_BOTH:
        return all(is_zero(args[index]) for index in OF_BOTH[target])
    if target is aten.convolution.default:
        return args[2] is None and (is_zero(args[0]) or is_zero(args[1]))
    if target is aten.convolution_backward.default:
        return is_zero(args[0])
    return getattr(target, "__name__", "") == "getitem" and is_zero(args[0])


def _number(value: object) -> float | None:
    """Return a fill value where it is known, else None."""
    return value if isinstance(value, (bool, int, float)) else None


def _written_down(graph: Graph, node: Node) -> Node:
    """Replace a node that computes zeros by a constant of zeros, and return the constant.

    Returns the node itself where it gives several tensors, or one of another memory order.
    """
    value = node.meta.get("val")
    if (
        not isinstance(value, torch.Tensor)
        or not value.is_contiguous()
        or node.target in MADE_BY
        or node.target in FILLED
    ):
        return node
    with graph.inserting_after(node):
        written = graph.call_function(
            aten.full.default, (list(value.shape), 0), {"dtype": value.dtype, "device": value.device}
        )
    written.meta["val"] = value
    node.replace_all_uses_with(written)
    return written


def _other_term(node: Node, zeros: set[object]) -> Node | None:
    """Return the term that equals a sum with zeros, or a difference from them, or None.

    The term must have the shape, dtype, strides and device of the sum.
    """
    if node.target not in (aten.add.Tensor, aten.sub.Tensor) or node.kwargs:
        return None
    first, second = node.args[:2]
    if isinstance(first, Node) and second in zeros:
        return first if _form(first) == _form(node) else None
    if node.target is aten.add.Tensor and isinstance(second, Node) and first in zeros:
        return second if _form(second) == _form(node) else None
    return None


def _form(node: Node) -> tuple:
    value = node.meta["val"]
    return value.shape, value.dtype, value.stride(), value.device
