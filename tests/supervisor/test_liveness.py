"""What the signs of life mean, and that only a process without any is killed."""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import trio
from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.lifecycle import Health
from balancer.supervisor.forensics import Forensics
from balancer.supervisor.liveness import LATE, SAID_AFTER, Limits, State, is_late, judge
from balancer.supervisor.signs import Signs
from balancer.supervisor.spec import Launch, LivenessSpec
from balancer.telemetry.table import LAST_MOVED
from tests.supervisor.ground import QUICK, ROOT, Ground, ground
from tests.supervisor.test_backend import pid_of

times = st.floats(0, 200)

# One thread: what stops its loop stops its heartbeats and its answers. POST-like paths: /block?S stands still for S seconds.
LOOP = f"""
import os, socket, sys, time, faulthandler, signal
sys.path.insert(0, {str(ROOT)!r})
from balancer import backend
faulthandler.register(signal.SIGUSR1, all_threads=True)
s = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])), backlog=4096)
s.settimeout(0.05)
backend.ready()
def stuck_in_a_handler(seconds):
    time.sleep(seconds)
while True:
    backend.heartbeat()
    try:
        c, _ = s.accept()
    except TimeoutError:
        continue
    c.settimeout(2)
    try:
        line = c.recv(4096).split(b" ")[1:2]
        if line and line[0].startswith(b"/block?"):
            stuck_in_a_handler(float(line[0][7:]))
        c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
    except OSError:
        pass
    c.close()
"""


@given(times, times, times, times, st.booleans(), st.booleans(), st.sampled_from([0.0, 2.0, 10.0]), times)
def test_whoever_gave_a_sign_lately_is_not_hung(
    beat: float, passed: float, answered: float, moved: float, fails: bool, probe: bool, limit: float, at: float
) -> None:
    signs = Signs(beat, passed, max(passed, answered), fails)
    hung = judge(signs, moved, Limits(limit, 0.0, probe), at) is State.HUNG
    assert not hung or (limit and at - beat > limit and at - moved > limit)
    assert not (hung and probe) or (fails and at - passed > limit)
    by_probe = judge(signs, moved, Limits(0.0, limit, probe), at) is State.HUNG
    assert not by_probe or (limit and probe and fails and at - signs.answered_at > limit and at - moved > limit)


def test_each_sign_alone_saves_it() -> None:
    limits = Limits(5.0, 0.0, True)
    dead = Signs(0.0, 0.0, 0.0, True)
    assert judge(dead, 0.0, limits, 6.0) is State.HUNG
    assert judge(replace(dead, beat_at=2.0), 0.0, limits, 6.0) is State.ALIVE
    assert judge(replace(dead, passed_at=2.0), 0.0, limits, 6.0) is State.ALIVE
    assert judge(dead, 2.0, limits, 6.0) is State.ALIVE
    assert judge(replace(dead, probe_fails=False), 0.0, limits, 6.0) is State.ALIVE
    # A TCP connect is the kernel's word: it counts neither way.
    assert (
        judge(replace(dead, passed_at=5.9, probe_fails=False), 0.0, replace(limits, has_probe=False), 6.0) is State.HUNG
    )


def test_without_heartbeats_a_wrong_answer_is_a_sign_of_life_and_silence_is_said() -> None:
    silent = Signs(0.0, 0.0, 0.0, True)
    assert judge(silent, 0.0, Limits(0.0, 0.0, True), SAID_AFTER + 1) is State.SILENT
    assert judge(silent, 0.0, Limits(0.0, 5.0, True), 6.0) is State.HUNG
    assert judge(replace(silent, answered_at=5.0), 0.0, Limits(0.0, 5.0, True), 6.0) is State.ALIVE
    assert judge(silent, 0.0, Limits(0.0, 5.0, False), 1000.0) is State.ALIVE


def test_late_comes_before_hung_and_whatever_moves() -> None:
    limits = Limits(4.0, 0.0, True)
    assert not is_late(Signs(), limits, 4.0 * LATE)
    assert is_late(Signs(), limits, 4.0 * LATE + 0.1)
    assert not is_late(Signs(), Limits(0.0, 9.0, True), 1000.0)


def loop() -> Launch:
    return Launch(group="", command=(sys.executable, "-c", LOOP), cwd="/")


def care(heartbeat: float, path: str = "/", **more: float | int) -> object:
    probe = replace(QUICK.probe, path=path, interval=0.1, timeout=0.2, fall=2, rise=1)
    return replace(QUICK, ready_when="message", probe=probe, liveness=LivenessSpec(heartbeat=heartbeat, **more))  # type: ignore[arg-type]


async def block(g: Ground, seconds: float) -> trio.SocketStream:
    """A request that keeps the only thread so long."""
    backend = next(iter(g.truth.backends.values()))
    stream = await trio.open_tcp_stream(backend.host, backend.port)
    await stream.send_all(b"GET /block?%f HTTP/1.1\r\n\r\n" % seconds)
    return stream


async def test_a_stopped_process_is_killed_and_that_is_nobodys_request() -> None:
    async with ground() as g:
        slot = g.add(loop(), care(0.6, path=""))  # type: ignore[arg-type]
        await g.event("ready")
        os.kill(pid_of(slot), signal.SIGSTOP)
        hung = await g.event("hung")
        assert hung.detail["stopped"]
        assert "no heartbeat for" in hung.detail["reason"]
        crashed = await g.event("crashed")
        assert crashed.detail["killed"].startswith("hung: no heartbeat")
        assert g.exits[-1][1] is False
        await g.event("ready", 2)
        assert slot.restarts == {"heartbeat": 1}


async def test_one_that_blocks_for_less_is_skipped_and_not_killed() -> None:
    async with ground() as g:
        g.add(loop(), care(4.0))  # type: ignore[arg-type]
        await g.event("ready")
        backend = next(iter(g.truth.backends.values()))
        async with await block(g, 1.2):
            await g.event("unhealthy")
            assert not backend.takes_requests
            await g.event("healthy")
        assert backend.takes_requests
        assert not g.kinds("hung")


async def test_bytes_that_move_save_one_whose_heartbeat_is_late() -> None:
    async with ground() as g:
        g.add(loop(), care(0.5))  # type: ignore[arg-type]
        await g.event("ready")
        backend = next(iter(g.truth.backends.values()))
        table = g.truth.ledger.table
        async with await block(g, 1.5):

            async def stream() -> None:
                while True:
                    table.cells[table.backend_base(0, backend.row) + LAST_MOVED] = time.monotonic_ns()
                    await trio.sleep(0.05)  # as a proxy would note it

            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream)
                await g.event("unhealthy")
                assert backend.health is Health.UNHEALTHY, "no new requests for it"
                await g.event("healthy")
                assert not g.kinds("hung")
                nursery.cancel_scope.cancel()


async def test_a_slow_start_is_not_a_hang() -> None:
    busy = "import time,os\nend=time.monotonic()+1.2\nwhile time.monotonic()<end: pass\n"
    async with ground() as g:
        launch = Launch(group="", command=(sys.executable, "-c", busy + LOOP), cwd="/")
        g.add(launch, care(0.8))  # type: ignore[arg-type]
        await g.event("ready")
        assert not g.kinds("hung")
        assert len(g.kinds("started")) == 1


async def test_a_hung_one_leaves_its_stack_behind(tmp_path: Path) -> None:
    async with ground() as g:
        notes = Forensics(str(tmp_path / "notes"), lambda *_: [line.text for line in g.lines])
        g.around = replace(g.around, forensics=notes)
        g.fleet.around = g.around
        g.add(loop(), care(0.5, dump_signal=signal.SIGUSR1))  # type: ignore[arg-type]
        await g.event("ready")
        async with await block(g, 30):
            hung = await g.event("hung")
            await g.event("crashed")
        assert g.exits[-1][1] is True, "its own doing: what was on it is not simply tried again"
        note = await trio.Path(hung.detail["note"]).read_text()
        assert "GET /slow" in note, "what the proxies said is in flight"
        assert "stuck_in_a_handler" in note
        assert "State: S" in note
        assert "open descriptors:" in note


async def test_one_that_says_it_hangs_is_believed() -> None:
    trigger = "import os,socket,signal;s=socket.create_server((os.environ['HOST'],int(os.environ['PORT'])));"
    trigger += "n=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM);a=os.environ['NOTIFY_SOCKET'];"
    trigger += "assert os.environ['WATCHDOG_USEC']=='60000000';n.connect('\\0'+a[1:]);n.send(b'READY=1');"
    trigger += "n.send(b'WATCHDOG=trigger');signal.pause()"
    async with ground() as g:
        g.add(Launch(group="", command=(sys.executable, "-c", trigger)), care(60.0, path=""))  # type: ignore[arg-type]
        hung = await g.event("hung")
        assert hung.detail["reason"] == "it said so itself"
