"""Which of the handovers a process gets."""

from balancer.supervisor.generation import Generation
from balancer.supervisor.handover import Handover, OwnSocket, PassedConnections, SharedSockets


def make(owner: Generation) -> Handover:
    """What `owner.launch` asks for. Raises BalancerError when what it needs cannot be had."""
    launch = owner.launch
    if launch.handover == "node-cluster":
        from balancer.supervisor.node_cluster import NodeCluster  # few need it, and a start should be quick

        return NodeCluster(owner)
    if launch.mode == "shared":
        return SharedSockets(owner)
    if launch.mode == "pass":
        return PassedConnections(owner)
    return OwnSocket(owner) if launch.handover == "socket" else Handover(owner)
