"""Limits and identity from the file to the process; the environment is the file's at each reload."""

import json
import os
import pwd
import signal
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.support.apps import LISTEN, pool
from tests.support.load import load
from tests.support.running import running

LIMITS = """
[pool.web.limits]
open_files = 300
core = "0"
nice = 5
umask = "077"
"""


async def test_limits_reach_the_process_and_change_with_a_reload() -> None:
    async with running(LISTEN + pool("web", 1, more=LIMITS)) as balancer:
        (before,) = await balancer.backends("web")
        with open(f"/proc/{before['pid']}/limits") as file:  # noqa: ASYNC230
            limits = {line[:26].strip(): line[26:].split()[:2] for line in file}
        assert limits["Max open files"] == ["300", "300"]
        assert limits["Max core file size"] == ["0", "0"]
        assert os.getpriority(os.PRIO_PROCESS, before["pid"]) == max(5, os.getpriority(os.PRIO_PROCESS, 0))
        balancer.config.write_text(balancer.config.read_text().replace("open_files = 300", "open_files = 301"))
        assert (await balancer.command("reload")).returncode == 0
        (after,) = await balancer.backends("web")
        with open(f"/proc/{after['pid']}/limits") as file:  # noqa: ASYNC230
            assert any(line.startswith("Max open files") and " 301 " in line for line in file)


QUICK = """
[pool.web.restart]
delay = "20ms"
max_delay = "50ms"
[pool.web.limits]
memory = "80MB"
"""


async def test_one_that_grows_beyond_its_memory_is_killed_and_requests_are_answered() -> None:
    # 256 KiB for each request, 100 requests a second for each of two: the limit is reached every other second.
    text = LISTEN + pool("web", 2, "--grow", str(256 * 1024), more=QUICK)
    async with running(text) as balancer, load(balancer.port, rate=200, clients=8) as traffic:
        await balancer.until(lambda status: sum(b["restarts"] for b in status["pools"][0]["backends"]) >= 3, 40)
        await traffic.more(20)
        # As at any crash: what was on it and may not be repeated got an answer that says so, all else was served.
        assert set(traffic.failures) <= {"status 502"}, (traffic.failures, balancer.text)
        kills = balancer.text.count(" crashed ")
        assert traffic.failures.total() <= 8 * kills < traffic.answers[200] / 10
        line = await balancer.line("crashed")
        assert 'how="SIGKILL (its memory limit)"' in line
        assert " MB of memory, its limit is 80 MB" in line
        metrics = await balancer.metrics()
        assert 'balancer_backend_restarts_total{backend="web-0",pool="web",reason="memory"}' in metrics
        assert 'reason="crash"} 1' not in metrics


async def test_a_release_that_is_larger_than_its_limit_is_taken_back() -> None:
    async with running(LISTEN + pool("web", 2, more=QUICK)) as balancer:
        before = [backend["pid"] for backend in await balancer.backends("web")]
        small = balancer.config.read_text()
        balancer.config.write_text(small.replace('"--port"', '"--ballast", "100000000", "--port"', 1))
        assert small != balancer.config.read_text()
        result = await balancer.command("reload")
        assert result.returncode == 1
        assert "SIGKILL (its memory limit) before it was ready" in result.stderr
        assert [backend["pid"] for backend in await balancer.backends("web")] == before


async def test_the_environment_is_read_again_at_each_reload() -> None:
    env = 'env = {COLOUR = "red", OLD = "x"}\n'
    async with running(LISTEN + pool("web", 1, more=env)) as balancer:
        assert (await balancer.get("/env?name=COLOUR")).text == "red"
        balancer.config.write_text(balancer.config.read_text().replace(env, 'env = {COLOUR = "blue"}\n'))
        assert (await balancer.command("reload")).returncode == 0
        assert (await balancer.get("/env?name=COLOUR")).text == "blue"
        assert (await balancer.get("/env?name=OLD")).text == ""


async def test_a_crowd_is_said() -> None:
    many = 2 * len(os.sched_getaffinity(0)) + 1
    sleeper = json.dumps([sys.executable, "-c", "import signal; signal.pause()"])
    text = LISTEN + f'[pool.web]\ncommand = {sleeper}\nbackends = {many}\n[pool.web.ready]\nwhen = "message"\n'
    async with running(text, ready=False) as balancer:
        await balancer.line(f"{many} backends on ")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_proxies_run_as_another_user_and_write_their_log_in_a_folder_of_ours() -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        log = Path(folder, "access.log")
        text = LISTEN + f'[proxy]\nuser = "nobody"\n\n[log]\naccess = "{log}"\n\n' + pool("web", 1)
        async with running(text) as balancer:
            (proxy,) = (await balancer.status())["proxies"]
            process = psutil.Process(proxy["pid"])
            assert set(process.uids()) == {nobody.pw_uid}
            assert set(process.gids()) == {nobody.pw_gid}
            log.rename(log.with_suffix(".1"))  # noqa: ASYNC240
            balancer.signal(signal.SIGUSR1)
            await balancer.line("log files reopened")
            assert (await balancer.get("/later")).status_code == 200
        assert "/later" in log.read_text()  # noqa: ASYNC240
        assert log.stat().st_uid == nobody.pw_uid  # noqa: ASYNC240
