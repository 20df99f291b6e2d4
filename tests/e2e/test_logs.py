"""What backends write: whole lines in order, in files by size, and a reader that stalls stalls nobody."""

import json
import socket
import sys

import trio

from tests.support.apps import LISTEN, pool
from tests.support.load import load
from tests.support.running import running

# Writes lines as fast as it can, in pieces that end anywhere, to both streams, and serves.
CHATTER = """
import os, runpy, sys, threading
def talk():
    number = 0
    while True:
        data = b"".join(b"%s %d %s end\\n" % (os.environb[b"BALANCER_BACKEND"], number + i, b"x" * (i % 90)) for i in range(100))
        number += 100
        for start in range(0, len(data), 333):
            os.write(1, data[start:start + 333])
        threading.Event().wait(0.003)
threading.Thread(target=talk, daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


async def test_lines_in_files_stay_whole_and_in_order_and_their_size_is_bounded() -> None:
    from tests.support.apps import APP

    command = json.dumps([sys.executable, "-c", CHATTER, str(APP), "--port", "{port}"])
    text = f'{LISTEN}[pool.web]\ncommand = {command}\nbackends = 2\n[log]\nbackends = "out"\nmax_size = "64KiB"\nmax_files = 3\n'
    async with running(text) as balancer:
        folder = balancer.folder / "out"
        with trio.fail_after(balancer.patience):
            while not all((folder / f"web-{n}.log.2").exists() for n in (0, 1)):  # noqa: ASYNC110
                await trio.sleep(0.05)  # files that another process writes: there is no event
        async with load(balancer.port, rate=50) as traffic:
            await traffic.more(50)
        assert not traffic.failures
        # The reader of this balancer's own output need not keep up for that.
        balancer.config.write_text(balancer.config.read_text().replace(command, json.dumps([sys.executable, str(APP)])))
        assert (await balancer.command("reload")).returncode == 0
        for index in (0, 1):
            files = sorted(folder.glob(f"web-{index}.log*"), reverse=True)
            assert len(files) == 3
            assert all(file.stat().st_size <= 64 * 1024 for file in files)
            lines = b"".join(file.read_bytes() for file in files).decode().splitlines()
            numbers = []
            chatter = [line for line in lines if not line.startswith("listening")]
            for line in chatter[:-1]:  # the last one may have been cut by the end of its writer
                name, number, *_, end = line.split(" ")
                assert (name, end) == (f"web-{index}", "end")
                numbers.append(int(number))
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "none torn, none lost"


async def test_a_follower_that_stalls_stalls_nobody() -> None:
    from tests.support.apps import APP

    command = json.dumps([sys.executable, "-c", CHATTER, str(APP), "--port", "{port}"])
    async with running(f"{LISTEN}[pool.web]\ncommand = {command}\nbackends = 2\n") as balancer:
        stalled = socket.create_connection(("127.0.0.1", int(balancer.admin_url.rpartition(":")[2])))
        with stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.sendall(b"GET /api/v1/logs?follow=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            async with load(balancer.port, rate=100) as traffic:
                await traffic.more(150)
                # Somebody else reads meanwhile, from any terminal.
                done = await balancer.command("logs", "web/web-0", "-n", "5")
                assert done.returncode == 0
                assert len([line for line in done.stdout.splitlines() if "web-0" in line and line.endswith("end")]) == 5
                before = (await balancer.status())["proxies"]
                await traffic.more(150)
            assert not traffic.failures, traffic.failures
            assert (await balancer.status())["proxies"][0]["pid"] == before[0]["pid"]
        memory = [b["memory_bytes"] for b in await balancer.backends("web")]
        assert all(size and size < 100_000_000 for size in memory)


async def test_json_files_carry_who_and_when() -> None:
    text = LISTEN + pool("web", 1) + '[log]\nbackends = "out"\nbackends_format = "json"\n'
    async with running(text) as balancer:
        file = balancer.folder / "out" / "web-0.log"
        with trio.fail_after(balancer.patience):
            while not (file.exists() and file.read_text()):  # noqa: ASYNC110
                await trio.sleep(0.02)  # a file that another process writes: there is no event
        found = json.loads(file.read_text().splitlines()[0])
        assert found["backend"] == "web-0"
        assert found["line"].startswith("listening on")
