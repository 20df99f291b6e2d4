"""A process manager and load balancer in one: starts an HTTP app N times and is the front door to it.

Three kinds of process: the *supervisor* (`balancer.supervisor`) holds the truth and never touches a request; each *proxy*
(`balancer.proxy`) carries requests and never starts a process; a *backend* is one process of a pool.

Layers, top to bottom; a package imports only from layers below its own:

    cli
    admin.client · supervisor · proxy
    admin.api · channel
    settings · pool · http1 · net · telemetry
    errors
"""

__version__ = "0.1.0"
