"""Casts of weights put into one launch, before the compiler sees them.

Under autocast every use of a weight casts it from float32, so a step begins with a launch a weight, and casts one weight
twice where two passes use it. Here all casts of a graph's inputs become one operation over a list, which CUDA computes in
one launch, and equal casts become one. DCGAN at 64x64: 11 launches become 1.
"""
import operator

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph, Node

aten = torch.ops.aten
CASTS = (aten._to_copy.default, torch.ops.prims.convert_element_type.default)


class CastsTogether(CustomGraphPass):
    """A pass of Inductor's: the casts of CUDA inputs, by dtype, as one _foreach_copy each."""

    def __call__(self, graph: Graph) -> None:
        """Change the graph in place. Its nodes are aten operations with the tensors that they give in meta["val"]."""
        groups: dict[torch.dtype, list[Node]] = {}
        for node in graph.nodes:
            if _is_cast_of_input(node):
                groups.setdefault(node.meta["val"].dtype, []).append(node)
        for nodes in groups.values():
            _put_together(graph, nodes)

    def uuid(self) -> bytes:
        """For the key of Inductor's cache."""
        return get_hash_for_files((__file__,))


def _is_cast_of_input(node: Node) -> bool:
    """Of a tensor on CUDA, to a floating point dtype, and nothing else: no other device, no other memory format."""
    if node.op != "call_function" or node.target not in CASTS or set(node.kwargs) - {"dtype"}:
        return False
    source, value = node.args[0], node.meta["val"]
    is_input = source.op == "placeholder" and source.meta["val"].is_floating_point()
    return is_input and value.is_cuda and value.is_floating_point() and value.stride() == source.meta["val"].stride()


def _put_together(graph: Graph, nodes: list[Node]) -> None:
    """All of one dtype, behind the last input; the targets of the copies say the dtype and are never read."""
    if len(nodes) < 2:
        return
    first = {node.args[0]: node for node in reversed(nodes)}  # of equal casts one
    sources = list(first)
    last_input = [node for node in graph.nodes if node.op == "placeholder"][-1]
    with graph.inserting_after(last_input):
        together = graph.call_function(aten._foreach_copy.default, ([], sources))
    with graph.inserting_before(together):
        together.args = ([_target(graph, first[source]) for source in sources], sources)
    together.meta["val"] = [first[source].meta["val"] for source in sources]
    for index, source in reversed(list(enumerate(sources))):
        with graph.inserting_after(together):
            item = graph.call_function(operator.getitem, (together, index))
        item.meta.update(first[source].meta)
        for node in nodes:
            if node.args[0] is source:
                node.replace_all_uses_with(item)
                graph.erase_node(node)


def _target(graph: Graph, cast: Node) -> Node:
    value = cast.meta["val"]
    form = cast.args[0], list(value.shape), list(value.stride())
    target = graph.call_function(aten.new_empty_strided.default, form, {"dtype": value.dtype})
    target.meta["val"] = value
    return target
