"""A real balancer in its own process, for end-to-end tests.

    async with running(LISTEN + pool("web", 2)) as balancer:
        response = await balancer.get("/")

Every `:0` in an address of the text becomes a free port, and `[admin]` is added when the text has none. Leaving the
block stops the balancer with SIGTERM and checks that it ended in time and that none of its processes lives on.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import trio

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
MARKER = "BALANCER_TEST_RUN"
WHOLE = 15.0  # seconds
LAST_WORDS = 2.0  # seconds


class Balancer:
    """One running balancer.

    url, admin_url: without a trailing slash; lines: what it has written, stdout and stderr together; mark: what its
    environment and that of everything it starts carries.
    """

    def __init__(self, process: trio.Process, folder: Path, config: Path, mark: str, patience: float) -> None:
        self.process = process
        self.folder = folder
        self.config = config
        self.patience = patience
        self.lines: list[str] = []
        self.client = httpx.AsyncClient(timeout=patience, trust_env=False)
        self.mark = mark
        self._line_came = trio.Event()
        self._output_ended = trio.Event()
        self.read_config()

    def read_config(self) -> None:
        """Take the addresses from the file as it is now: listeners in its order, then the admin address."""
        text = self.config.read_text()
        self.addresses = dict(re.findall(r'^\[listen\.([\w-]+)\][^\[]*?^address = "([^"]+)"', text, re.M | re.S))
        admin = re.search(r'^\[admin\][^\[]*?^address = "([^"]*)"', text, re.M | re.S)
        self.admin_url = f"http://{admin[1]}" if admin else ""
        self.url = f"http://{next(iter(self.addresses.values()))}"

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self.process.pid

    @property
    def port(self) -> int:
        """The first listener's."""
        return int(self.url.rpartition(":")[2])

    @property
    def text(self) -> str:
        """Everything it has written so far."""
        return "\n".join(self.lines)

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    async def get(self, target: str = "/", **options: Any) -> httpx.Response:
        """A GET through the first listener."""
        return await self.client.get(self.url + target, **options)

    async def status(self) -> dict[str, Any]:
        """GET /api/v1/status."""
        answer = await self.client.get(self.admin_url + "/api/v1/status")
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def metrics(self) -> str:
        """GET /metrics, as Prometheus text."""
        answer = await self.client.get(self.admin_url + "/metrics")
        answer.raise_for_status()
        return answer.text

    async def backends(self, pool: str) -> list[dict[str, Any]]:
        """The backends of one pool, from the status."""
        found = next(p for p in (await self.status())["pools"] if p["name"] == pool)
        backends: list[dict[str, Any]] = found["backends"]
        return backends

    async def until(self, holds: Callable[[dict[str, Any]], bool], seconds: float | None = None) -> dict[str, Any]:
        """The first status for which `holds` is true. AssertionError with the last status when the time is up."""
        last: dict[str, Any] = {}
        with trio.move_on_after(seconds or self.patience):
            while True:
                last = await self.status()
                if holds(last):
                    return last
                await trio.sleep(0.02)  # another process's state: there is no event to wait for
        raise AssertionError(f"not within {seconds or self.patience} s; last status {last}\n{self.text}")

    async def line(self, part: str, seconds: float | None = None) -> str:
        """The first line that contains `part`, waiting for it if it has not come yet."""
        with trio.move_on_after(seconds or self.patience):
            seen = 0
            while True:
                for line in self.lines[seen:]:
                    if part in line:
                        return line
                seen = len(self.lines)
                await self._line_came.wait()
        raise AssertionError(f"no line with {part!r}:\n{self.text}")

    async def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb against this balancer, `await balancer.command("status", "--json")`; any exit code is returned."""
        verb, *rest = arguments
        with trio.fail_after(self.patience):
            done = await trio.run_process(
                [sys.executable, "-m", "balancer", verb, "--config", str(self.config), *rest],
                capture_stdout=True, capture_stderr=True, check=False, env=environment(self.mark), cwd=self.folder,
            )  # fmt: skip
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    async def wait(self, seconds: float | None = None) -> int:
        """The exit code, once it has ended and all that it wrote is read."""
        with trio.move_on_after(seconds or self.patience):
            code = await self.process.wait()
            # Whoever inherited its output and lives on may hold it open: that is for `processes` to find.
            with trio.move_on_after(LAST_WORDS):
                await self._output_ended.wait()
            return code
        raise AssertionError(f"still running after {seconds or self.patience} s:\n{self.text}")

    def processes(self) -> list[psutil.Process]:
        """Every process that this balancer started, directly or not, and that still lives."""
        # A zombie shows no environment, so it does not count.
        return [p for p in psutil.process_iter() if p.pid != self.pid and is_marked(p.pid, self.mark)]

    async def read(self) -> None:
        """Collect its output until it ends."""
        assert self.process.stdout is not None
        rest = b""
        async for data in self.process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            self.lines += [line.decode(errors="replace") for line in lines]
            came, self._line_came = self._line_came, trio.Event()
            came.set()
        self._output_ended.set()

    async def until_ready(self) -> None:
        """Wait for 200 on /readyz. AssertionError with the output when it ends or the time is up."""
        with trio.move_on_after(self.patience):
            while self.process.returncode is None:
                try:
                    if (await self.client.get(self.admin_url + "/readyz")).status_code == 200:
                        return await self._until_whole()
                except httpx.TransportError:
                    pass
                await trio.sleep(0.01)  # another process's start: there is no event to wait for
        raise AssertionError(f"not ready; exit code {self.process.returncode}:\n{self.text}")

    async def _until_whole(self) -> None:
        """A pool is ready with one backend; most tests mean all of them. One that fails, or starts for very long, is left behind."""
        with trio.move_on_after(WHOLE):
            while True:
                try:
                    pools = (await self.status())["pools"]
                except httpx.HTTPError:
                    return  # the test has given the admin address a token, or the balancer an early end
                if not any(is_on_its_way(backend) for pool in pools for backend in pool["backends"]):
                    return
                await trio.sleep(0.02)  # another process's state: there is no event to wait for


def is_on_its_way(backend: dict[str, Any]) -> bool:
    """Whether a backend of the status is about to take requests for the first time, as far as one knows."""
    return backend["phase"] == "starting" or (backend["phase"], backend["health"]) == ("running", "unknown")


def is_marked(pid: int, mark: str) -> bool:
    """Whether the process was started, directly or not, with this mark in its environment."""
    try:
        return f"{MARKER}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def environment(mark: str) -> dict[str, str]:
    """This process's, the mark, and the checkout first on the path: what is tested is not an installed balancer."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    # SPT_NOENV: setproctitle would otherwise write titles over the environment, where the mark stands.
    return {**os.environ, MARKER: mark, "PYTHONPATH": path, "SPT_NOENV": "1"}


def with_ports(text: str) -> str:
    """The text with an [admin] section, and with a free port for every `:0` in an address."""
    if not re.search(r"^\[admin\]", text, re.M):
        text += '\n[admin]\naddress = "127.0.0.1:0"\n'
    return re.sub(r'^(address = "[^"]*):0"', lambda found: f'{found[1]}:{free_port()}"', text, flags=re.M)


@asynccontextmanager
async def running(
    text: str, *arguments: str, ready: bool = True, patience: float = 30.0, exit_code: int | None = 0
) -> AsyncIterator[Balancer]:
    """Start `balancer --config FILE` on this text; `arguments` follow it on the command line.

    ready: wait for /readyz first. patience: the limit in seconds of every single wait. exit_code: what it must end
    with; None when any will do. Raises AssertionError when it is not ready, does not stop, or leaves a process behind.
    """
    # Not pytest's tmp_path: its names are long, and the control socket's path must fit into 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="balancer-"))
    config = folder / "cluster.toml"
    config.write_text(with_ports(text))
    mark = uuid.uuid4().hex
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "balancer", "--config", str(config), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(mark), cwd=folder,
    )  # fmt: skip
    balancer = Balancer(process, folder, config, mark, patience)
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(balancer.read)
            try:
                if ready:
                    await balancer.until_ready()
                yield balancer
                await stopped(balancer, exit_code)
            except Exception as error:
                failure = error  # raised below: the nursery would wrap it in a group
                if balancer.text not in str(error):
                    error.add_note(f"the balancer's output:\n{balancer.text}")
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            if process.returncode is None:
                process.kill()
                await process.wait()
            await balancer.client.aclose()
        for orphan in balancer.processes():
            with suppress(psutil.NoSuchProcess):
                orphan.kill()
        shutil.rmtree(folder)


async def stopped(balancer: Balancer, exit_code: int | None) -> None:
    """End it with SIGTERM, unless the test already has, and check how it went."""
    if balancer.process.returncode is None:
        balancer.signal(signal.SIGTERM)
    code = await balancer.wait()
    assert exit_code is None or code == exit_code, f"ended with {code}:\n{balancer.text}"
    left = balancer.processes()
    assert not left, f"left behind {[(p.pid, p.cmdline()) for p in left]}:\n{balancer.text}"
