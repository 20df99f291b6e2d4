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
