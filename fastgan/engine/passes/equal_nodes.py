"""Merging of equal operations on weights, and of equal sums.

A step runs a network more than once with the same weights: G makes images for D and, from other z,
for itself. Results that depend on the weights alone (sums of squares for demodulation, stacks of
them, casts), or on nothing (filters), are the same both times, and the compiler does not look for
such pairs in a graph that contains its backward pass. stylegan2-tiny: 25 launches fewer of 421.
Activations are not merged: an operation that is fused into each of its users would be written to
memory for all of them (dcgan 64x64 moved 1.41 GB instead of 1.13 when all equal operations were
merged). Sums of activations are small: the biases of two convolutions whose results are added have
the same gradient, and the C++ that torch 2.13 writes for both in bf16 does not compile (wgan-gp).
"""

from collections.abc import Hashable

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph, Node

aten = torch.ops.aten
SUMS = (aten.sum.dim_IntList, aten.sum.default)
PRODUCTS = (aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default)


class EqualsOnce(CustomGraphPass):
    """Pass of Inductor: merges equal sums, and equal operations on inputs, into the first."""

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
        """Return the key for Inductor's cache."""
        return get_hash_for_files((__file__,))


def _is_function(node: Node) -> bool:
    """Return True if equal arguments give equal results: no random numbers, no side effects.

    Products do not count.
    """
    if node.op != "call_function" or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target in PRODUCTS or target.namespace not in ("aten", "prims"):
        return False
    if "empty" in target._schema.name:
        return False  # each is written to by later nodes
    return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags


def _key(node: Node) -> Hashable:
    return node.target, _hashable(node.args), _hashable(tuple(sorted(node.kwargs.items())))


def _hashable(value: object) -> Hashable:
    """Return arguments as a key for look-up; 1, 1.0 and True are different."""
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    return type(value), value
