"""The control side: what can be asked of a running balancer, how it is asked over HTTP, and the client that asks."""
