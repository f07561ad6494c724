"""All changes to a graph before the compiler takes it, in order, as the one pass of Inductor."""
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx import Graph

from fastgan.engine.passes.channel_sums import SumsTogether
from fastgan.engine.passes.equal_nodes import EqualsOnce
from fastgan.engine.passes.weight_casts import WeightsTogether
from fastgan.engine.passes.zero_folding import ZerosTakenOut


class GraphPasses(CustomGraphPass):
    """All passes in order: zeros, equal operations, channel sums, operations on weights."""

    def __init__(self) -> None:
        self._passes = (ZerosTakenOut(), EqualsOnce(), SumsTogether(), WeightsTogether())

    def __call__(self, graph: Graph) -> None:
        """Change the graph in place."""
        for each in self._passes:
            each(graph)

    def uuid(self) -> bytes:
        """Return the key for Inductor's cache."""
        return b"".join(each.uuid() for each in self._passes)
