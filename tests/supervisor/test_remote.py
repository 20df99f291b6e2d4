"""Backends elsewhere: down until a probe passes, down again when it goes away, never started by us."""

from dataclasses import replace

import trio

from balancer.supervisor.spec import Launch
from tests.supervisor.ground import QUICK, ground


async def test_an_address_is_only_probed() -> None:
    care = replace(QUICK, probe=replace(QUICK.probe, rise=2, fall=2))
    async with ground() as g, trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def serve(stream: trio.SocketStream) -> None:
            await stream.aclose()

        async with trio.open_nursery() as inner:
            inner.start_soon(trio.serve_listeners, serve, listeners)
            slot = g.add(Launch(group="1", address=("127.0.0.1", port)), care)
            assert not g.truth.backends
            await g.event("healthy")
            assert slot.current is not None
            assert slot.current.process is None
            assert slot.current.backend.takes_requests
            assert slot.current.backend.address == f"127.0.0.1:{port}"
            inner.cancel_scope.cancel()
        gone = await g.event("unhealthy")
        assert gone.detail["reason"] == "Connection refused"
        assert not slot.current.backend.takes_requests
        again = await trio.open_tcp_listeners(port, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, again)
        await g.event("healthy", 2)
        with trio.fail_after(10):
            await g.fleet.remove(slot, "test")
        assert not g.truth.backends
        nursery.cancel_scope.cancel()


async def test_a_trouble_that_a_request_met_is_looked_at_at_once() -> None:
    care = replace(QUICK, probe=replace(QUICK.probe, interval=60.0, fall=1))
    async with ground() as g:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        slot = g.add(Launch(group="", address=("127.0.0.1", listener.socket.getsockname()[1])), care)
        await g.event("healthy")
        await listener.aclose()
        assert slot.current is not None
        g.fleet.suspect(slot.current.backend.id)
        await g.event("unhealthy")
