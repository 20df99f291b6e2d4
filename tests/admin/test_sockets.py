"""The control socket: one balancer per file, and no obstacle left behind by one that died."""

import fcntl
import os
import select
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from balancer.admin.sockets import CannotListen, ControlSocket, is_answered, open_admin

TAKE = """
import sys
from pathlib import Path
from balancer.admin.sockets import CannotListen, ControlSocket
try:
    control = ControlSocket(Path(sys.argv[1]))
except CannotListen as error:
    print("no", error)
else:
    print("yes", flush=True)
    sys.stdin.read()
"""


async def test_it_is_the_owners_alone_and_goes_with_its_balancer(tmp_path: Path) -> None:
    path = tmp_path / "cluster.sock"
    umask = os.umask(0)
    try:
        control = ControlSocket(path)
        assert os.umask(0) == 0
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert is_answered(path)
    with pytest.raises(CannotListen, match="already running"):
        ControlSocket(path)
    control.close()
    assert not path.exists()
    assert not is_answered(path)


async def test_what_a_killed_balancer_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "cluster.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    assert path.exists()
    control = ControlSocket(path)
    assert is_answered(path)
    control.close()


async def test_a_successors_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cluster.sock"
    control = ControlSocket(path)
    path.unlink()
    successor = ControlSocket(path)
    control.close()
    assert is_answered(path)
    successor.close()


async def test_it_takes_no_file_away(tmp_path: Path) -> None:
    path = tmp_path / "cluster.sock"
    path.write_text("precious")
    with pytest.raises(CannotListen, match="something else"):
        ControlSocket(path)
    assert path.read_text() == "precious"
    with pytest.raises(CannotListen, match="No such file"):
        ControlSocket(tmp_path / "nowhere" / "cluster.sock")


def test_of_many_that_start_at_once_one_has_it(tmp_path: Path) -> None:
    path = tmp_path / "cluster.sock"
    command = [sys.executable, "-c", TAKE, str(path)]
    started = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(5)]
    said = [process.stdout.readline().split()[0] for process in started if process.stdout]
    assert sorted(said) == ["no"] * 4 + ["yes"]
    for process in started:
        process.communicate()


def test_between_asking_and_taking_nobody_else_comes(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    command = [sys.executable, "-c", TAKE, str(tmp_path / "cluster.sock")]
    process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None
    # Far longer than it needs when it does not wait.
    assert select.select([process.stdout], [], [], 1.0)[0] == []
    os.close(folder)
    assert process.stdout.readline() == "yes\n"
    process.communicate()


async def test_the_admin_address(tmp_path: Path) -> None:
    (listener,) = open_admin("127.0.0.1", 0)
    port = listener.socket.getsockname()[1]
    with pytest.raises(CannotListen, match=rf"admin.address 127.0.0.1:{port}: Address already in use"):
        open_admin("127.0.0.1", port)
    with pytest.raises(CannotListen, match=r"no-such-host\.invalid:1"):
        open_admin("no-such-host.invalid", 1)
    await listener.aclose()
