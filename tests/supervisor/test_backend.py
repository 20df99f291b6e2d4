"""Lives of real processes: crash, boot failure, time-outs, stubborn ones, what they say, and that nothing is left of them."""

import json
import os
import resource
import signal
import sys
from dataclasses import replace

import psutil
import pytest
import trio

from balancer.pool.lifecycle import Health, Intent, Phase
from balancer.supervisor.restart import RestartPolicy
from balancer.supervisor.slot import Slot
from balancer.supervisor.spawn import raise_descriptor_limit
from balancer.supervisor.spec import Launch
from tests.supervisor.ground import PATIENCE, QUICK, app, ground, talker


def pid_of(slot: Slot) -> int:
    assert slot.current is not None
    assert slot.current.process is not None
    return slot.current.process.pid


async def gone(pid: int) -> None:
    """Until a process that is no child of ours has ended; there is no event for it."""
    with trio.fail_after(PATIENCE):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await trio.sleep(0.005)


async def test_a_crashed_backend_is_down_at_once_and_replaced_once() -> None:
    async with ground() as g:
        slot = g.add(app())
        ready = await g.event("ready")
        assert ready.backend == "web-0"
        backend = next(iter(g.truth.backends.values()))
        assert backend.takes_requests
        os.kill(pid_of(slot), signal.SIGKILL)
        crashed = await g.event("crashed")
        assert crashed.detail["how"] == "SIGKILL"
        assert not backend.takes_requests
        again = await g.event("ready", 2)
        assert again.generation == 2
        assert len(g.kinds("started")) == 2
        assert slot.restarts == {"crash": 1}


async def test_exit_at_boot_backs_off_and_then_holds() -> None:
    care = replace(QUICK, restart=RestartPolicy(0.01, 0.05, 10.0, max_crashes=4))
    async with ground() as g:
        slot = g.add(app("--exit-at-boot", "3"), care)
        hold = await g.event("hold")
        assert hold.detail["crashes"] == 4
        assert [e.detail["reason"] for e in g.kinds("start failed")] == [
            "ended with exit code 3 before it was ready"
        ] * 4
        delays = [event.detail["delay"] for event in g.kinds("restarting")]
        assert [round(delay / 0.01) for delay in delays] == [1, 2, 4]
        assert slot.phase is Phase.HOLD
        assert g.truth.unready() == ["pool web: no backend takes requests: web-0 is hold"]
        assert not g.truth.snapshot().pools[0].expects


async def test_one_that_is_never_ready_is_killed_at_the_limit_and_never_a_success() -> None:
    async with ground() as g:
        g.add(app("--never-listen"), replace(QUICK, ready_timeout=0.3))
        failed = await g.event("start failed")
        assert failed.detail["reason"] == "was not ready within 0.3 s (probe: Connection refused)"
        ended = await g.event("exited")
        assert ended.detail == {"how": "SIGKILL", "killed": "not ready in time"}
        assert not g.kinds("ready")


async def test_a_program_that_is_not_there_is_said_in_a_sentence() -> None:
    async with ground() as g:
        g.add(Launch(group="", command=("no-such-program-at-all",)))
        failed = await g.event("start failed")
        assert "no-such-program-at-all" in failed.detail["reason"]
        assert "cannot be started" in failed.detail["reason"]


async def test_one_that_ignores_sigterm_is_killed_with_its_children() -> None:
    child = "import subprocess,sys,signal,os;signal.signal(15,signal.SIG_IGN);"
    child += "p=subprocess.Popen(['sleep','1000']);print(p.pid,flush=True);"
    child += "import socket;s=socket.create_server((os.environ['HOST'],int(os.environ['PORT'])));signal.pause();signal.pause()"
    async with ground() as g:
        slot = g.add(Launch(group="", command=(sys.executable, "-c", child)), replace(QUICK, stop_timeout=0.2))
        await g.event("ready")
        grandchild = int((await g.said(1))[0])
        with trio.fail_after(PATIENCE):
            await g.fleet.remove(slot, "test")
        ended = await g.event("exited")
        assert ended.detail == {"how": "SIGKILL", "killed": "did not stop within 0.2 s"}
        await gone(grandchild)


async def test_stragglers_of_a_crashed_leader_go_too() -> None:
    leader = "import subprocess,os;p=subprocess.Popen(['sleep','1000']);print(p.pid,flush=True);os._exit(1)"
    async with ground() as g:
        g.add(
            Launch(group="", command=(sys.executable, "-c", leader)), replace(QUICK, restart=RestartPolicy(60, 60, 10))
        )
        await g.event("start failed")
        await g.event("exited")
        await gone(int((await g.said(1))[0]))


async def test_it_gets_its_environment_and_only_its_own_descriptors() -> None:
    show = "import os,json,signal;print(json.dumps([dict(os.environ),sorted(os.listdir('/proc/self/fd'))]));"
    show += "print(signal.getsignal(signal.SIGPIPE)==signal.SIG_DFL or 'python', os.getpgid(0)==os.getpid())"
    launch = Launch(
        group="", command=(sys.executable, "-c", show), env={"WHERE": "{pool}/{index}:{port}", "J": "{a: 1}"}
    )
    async with ground() as g:
        slot = g.fleet.add("web", 3, launch, QUICK)
        await g.event("start failed")
        await g.event("exited")
        shown, group = await g.said(2)
        env, descriptors = json.loads(shown)
    assert group.endswith("True")
    channel = env["NODE_CHANNEL_FD"]
    expected = {
        "HOST": "127.0.0.1",
        "BALANCER_POOL": "web",
        "BALANCER_BACKEND": "web-3",
        "BALANCER_INDEX": "3",
        "BALANCER_GENERATION": "1",
        "NODE_CHANNEL_SERIALIZATION_MODE": "json",
        "NODE_APP_INSTANCE": "3",
        "WHERE": f"web/3:{env['PORT']}",
        "J": "{a: 1}",
    }
    assert {name: env.get(name) for name in expected} == expected
    assert env["NOTIFY_SOCKET"].startswith("@")
    # The last is listdir's own.
    assert set(descriptors[:4]) == {"0", "1", "2", channel} or len(descriptors) == 5
    assert len(descriptors) == 5
    assert slot.name == "web-3"


async def test_a_drain_waits_for_the_proxies_and_then_for_the_deadline() -> None:
    async with ground() as g:
        first = g.add(app())
        await g.event("ready")
        backend = next(iter(g.truth.backends.values()))
        g.undrained.add(backend.id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(g.fleet.remove, first, "test")
            await g.event("draining")
            assert backend.intent is Intent.DRAIN
            assert not backend.takes_requests
            assert psutil.pid_exists(pid_of(first))
            g.release(backend.id)
        assert [e.kind for e in g.recorded][-3:] == ["draining", "stopping", "exited"]

        second = g.add(app(), replace(QUICK, drain_timeout=0.1), index=1)
        await g.event("ready", 2)
        held = next(iter(g.truth.backends.values())).id
        g.undrained.add(held)
        with trio.fail_after(5):
            await g.fleet.remove(second, "test")
        late = await g.event("drain timeout")
        assert late.detail["requests"] == [{"method": "GET", "path": "/slow", "seconds": 1.0}]


async def test_a_sick_backend_leaves_rotation_and_comes_back(tmp_path: object) -> None:
    sick = f"{tmp_path}/sick"
    probe = replace(QUICK.probe, path="/healthz", rise=2, fall=2)
    async with ground() as g:
        slot = g.add(app("--sick", sick), replace(QUICK, probe=probe))
        await g.event("ready")
        open(sick, "w").close()  # noqa: ASYNC230
        unhealthy = await g.event("unhealthy")
        assert unhealthy.detail["reason"] == "status 503"
        assert slot.current is not None
        assert slot.current.backend.health is Health.UNHEALTHY
        os.unlink(sick)
        await g.event("healthy")
        assert slot.current.backend.takes_requests
        assert slot.generation == 1


async def test_ready_by_message_and_by_notify_socket() -> None:
    care = replace(QUICK, ready_when="message")
    notify = "import os,socket;s=socket.create_server((os.environ['HOST'],int(os.environ['PORT'])));"
    notify += "n=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM);a=os.environ['NOTIFY_SOCKET'];"
    notify += "n.sendto(b'STATUS=up\\nREADY=1\\n','\\0'+a[1:]);import signal;signal.pause()"
    async with ground() as g:
        g.add(talker("thread"), care, index=0)
        g.add(Launch(group="", command=(sys.executable, "-c", notify)), care, index=1)
        g.add(app(), replace(care, ready_timeout=0.5), index=2)  # listens, and says nothing
        await g.event("ready", 2)
        assert {event.backend for event in g.kinds("ready")} == {"web-0", "web-1"}
        failed = await g.event("start failed")
        assert failed.backend == "web-2"


@pytest.mark.parametrize("kind", ["thread", "asyncio", "trio"])
async def test_backends_talk_to_each_other(kind: str) -> None:
    async with ground() as g:
        for index in range(2):
            g.add(talker(kind), replace(QUICK, ready_when="message"), index)
        await g.event("ready", 2)
        assert g.around.post.send("web", "web-0", "ask") == 1
        await g.heard({"type": "broadcast", "from": "web-0", "data": "who?"})
        await g.heard({"type": "message", "from": "web-1", "data": "I am web-1"})
        assert {line.backend for line in g.lines if "who?" in line.text} == {"web-1"}
        first = g.truth.slots["web"][0]
        assert first.messages == {"received": 2, "garbage": 0, "sent": 2, "dropped": 0}


async def test_one_that_says_it_is_stopping_is_drained_and_replaced_once() -> None:
    script = "import os,socket,time,signal;s=socket.create_server((os.environ['HOST'],int(os.environ['PORT'])));"
    script += "c=socket.socket(fileno=int(os.environ['NODE_CHANNEL_FD']));"
    script += "c.sendall(b'\"ready\"\\n');"
    script += "c.sendall(b'{\"type\":\"stopping\"}\\n') if os.environ['BALANCER_GENERATION']=='1' else 0;"
    script += "c.close() if os.environ['BALANCER_GENERATION']=='1' else 0;signal.pause()"
    async with ground() as g:
        slot = g.add(Launch(group="", command=(sys.executable, "-c", script)), replace(QUICK, ready_when="message"))
        await g.event("ready", 2)
        await g.event("exited")
        assert len(g.kinds("started")) == 2
        assert not g.kinds("crashed")
        assert slot.generation == 2


async def test_the_death_of_one_that_spoke_is_a_crash_and_no_farewell() -> None:
    async with ground() as g:
        slot = g.add(talker("thread"), replace(QUICK, ready_when="message", restart=RestartPolicy(0.05, 1.0, 10.0)))
        await g.event("ready")
        os.kill(pid_of(slot), signal.SIGKILL)
        await g.event("ready", 2)
        assert len(g.kinds("crashed")) == 1
        assert "delay" in g.kinds("restarting")[0].detail
        assert slot.restarts == {"crash": 1}
        assert slot.current is not None
        assert slot.current.leaving == ""


async def test_it_gets_the_descriptor_limit_that_we_were_given() -> None:
    show = "import resource;print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    given, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_descriptor_limit()
    try:
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most
        async with ground() as g:
            g.add(Launch(group="", command=(sys.executable, "-c", show)))
            assert await g.said(1) == [str(given)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (given, most))
