"""The data plane: one process with one trio loop that carries requests from clients to backends.

In the order in which work passes: process, listener, client, routing, forward, view, upstream, relay, tunnel, sweep.
"""
