"""Equal operations on weights, and equal sums, done once.

A step runs a network more than once with the same weights: G makes images for D and, from other z,
for itself. What is made of the weights alone (sums of squares for demodulation, stacks of them,
casts), or of nothing (filters), is the same both times, and the compiler does not look for such
pairs in a graph that has its backward pass inside. stylegan2-tiny: 25 launches fewer of 421.
Activations stay as they are: what is fused into each of its users would be written to memory for
all (dcgan 64x64 moved 1.41 GB instead of 1.13 when all equal operations were done once). Their sums
are small: the biases of two convolutions whose results are added have the same gradient, and the
C++ that torch 2.13 writes of both in bf16 does not compile (wgan-gp).
"""

from collections.abc import Hashable

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph, Node

aten = torch.ops.aten
SUMS = (aten.sum.dim_IntList, aten.sum.default)
PRODUCTS = (aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default)


class EqualsOnce(CustomGraphPass):
    """A pass of Inductor's: the first of equal sums, and of equal operations on inputs, serves all."""

    def __call__(self, graph: Graph) -> None:
        """Change the graph in place.

        Its nodes are functional, with the tensors that they give in meta["val"].
        """
        made = {node for node in graph.nodes if node.op == "placeholder"}
        first: dict[Hashable, Node] = {}
        for node in list(graph.nodes):
            is_of_inputs = made.issuperset(node.all_input_nodes)
            if _is_function(node) and (is_of_inputs or node.target in SUMS):
                made |= {node} if is_of_inputs else set()
                other = first.setdefault(_key(node), node)
                if other is not node:
                    node.replace_all_uses_with(other)
                    graph.erase_node(node)

    def uuid(self) -> bytes:
        """For the key of Inductor's cache."""
        return get_hash_for_files((__file__,))


def _is_function(node: Node) -> bool:
    """Return whether equal arguments give equal results: it draws nothing and changes nothing.

    Products do not count.
    """
    if node.op != "call_function" or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target in PRODUCTS or target.namespace not in ("aten", "prims"):
        return False
    if "empty" in target._schema.name:
        return False  # each is written to by what follows
    return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags


def _key(node: Node) -> Hashable:
    return node.target, _hashable(node.args), _hashable(tuple(sorted(node.kwargs.items())))


def _hashable(value: object) -> Hashable:
    """Return arguments as what can be looked up; 1, 1.0 and True are different."""
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    return type(value), value
