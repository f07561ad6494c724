"""Every change to a graph before the compiler sees it, in their order, as the one pass that
Inductor takes.
"""
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx import Graph

from fastgan.engine.passes.channel_sums import SumsTogether
from fastgan.engine.passes.equal_nodes import EqualsOnce
from fastgan.engine.passes.weight_casts import WeightsTogether
from fastgan.engine.passes.zero_folding import ZerosTakenOut


class GraphPasses(CustomGraphPass):
    """Zeros are taken out, equal operations done once, then sums of channels and what is done to
    weights put together.
    """

    def __init__(self) -> None:
        self._passes = (ZerosTakenOut(), EqualsOnce(), SumsTogether(), WeightsTogether())

    def __call__(self, graph: Graph) -> None:
        """Change the graph in place."""
        for each in self._passes:
            each(graph)

    def uuid(self) -> bytes:
        """For the key of Inductor's cache."""
        return b"".join(each.uuid() for each in self._passes)
