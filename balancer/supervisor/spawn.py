"""How a process is started and how its end is noticed; nobody else in the supervisor touches `subprocess`.

Always from the main thread: PR_SET_PDEATHSIG fires when the *thread* that forked ends, and trio's worker threads do.
"""

import ctypes
import fcntl
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

from balancer.errors import BalancerError
from balancer.settings.programs import ProgramNotFound, resolve, search_path
from balancer.supervisor.guard import GUARD

_PR_SET_PDEATHSIG: Final = 1
_KILL_TIME: Final = 1.0  # seconds
# Where inherited listening sockets stand in the child (sd_listen_fds(3)), and from where on no other descriptor of it is in their way.
_FIRST_LISTENING: Final = 3
_ABOVE_LISTENING: Final = 64
_DESCRIPTORS: Final = resource.getrlimit(resource.RLIMIT_NOFILE)  # as we got it, and as every child gets it
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
# What belongs to this process and would mislead a child.
_OWN: Final = frozenset(
    {
        *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"),
        *("NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID", "NODE_APP_INSTANCE"),
    }
)


class CannotStart(BalancerError):
    """The program could not be started; the text is a sentence for people."""


def raise_descriptor_limit() -> None:
    """As many descriptors for this process as it may have: five belong to each backend.

    Children keep the limit that we were given: a program that uses select(2) breaks with numbers above 1023.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS[1], _DESCRIPTORS[1]))


class Process:
    """A running process, leader of its own group.

    `exited` is set within milliseconds of its end; `returncode` is then its code, negative for a signal. Its stdout and
    stderr are the read ends `out` and `err`, non-blocking; whoever reads them closes them.
    """

    def __init__(self, popen: "subprocess.Popen[bytes]", out: int, err: int) -> None:
        self.pid = popen.pid
        self.out = out
        self.err = err
        self.exited = trio.Event()
        self.returncode: int | None = None
        self.ended_at = 0.0  # CLOCK_MONOTONIC seconds when its end was seen
        self._popen = popen
        self._pidfd = os.pidfd_open(popen.pid)

    async def watch(self, ended: Callable[[], None] = lambda: None) -> None:
        """Wait for the end, kill what is left of the group, reap. To be run as a task for as long as the process lives.

        ended: called at once, when the code is known and nobody else has heard of it.
        """
        try:
            await trio.lowlevel.wait_readable(self._pidfd)
        finally:
            self.ended_at = time.monotonic()
            # Before reaping: as long as the leader is a zombie nobody else can have its group's number.
            self.kill()
            # Cancelled, it has just been killed; the kernel needs a moment for that.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _KILL_TIME):
                await trio.lowlevel.wait_readable(self._pidfd)
            GUARD.remove(self.pid)
            self._reap()
            ended()
            self.exited.set()
            os.close(self._pidfd)

    def signal(self, number: int) -> None:
        """Signal the process alone; too late is no error."""
        if not self.exited.is_set():
            try:
                # Not Popen's own: that one may reap, and then nobody kills what is left of the group.
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass

    def kill(self) -> None:
        """SIGKILL the whole group; too late is no error."""
        if self.exited.is_set():
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:
            self._popen.kill()

    def _reap(self) -> None:
        code = self._popen.poll()
        self.returncode = -signal.SIGKILL if code is None else code


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str,
    user: str = "",
    descriptors: Sequence[int] = (),
    listening: Sequence[int] = (),
    prepare: Callable[[], None] = lambda: None,
) -> Process:
    """Start `command` (program first, searched in `env`'s PATH) with exactly `env`; `descriptors` keep their numbers in it.

    user: "" for ours, else with all of that user's groups (needs root). listening: stand in it from 3 on, and LISTEN_PID is set; then no
    number of `descriptors` may be below 64. prepare: called in it, while it is still our user. SIGKILL reaches it and its group when
    this process dies. Raises CannotStart.
    """
    try:
        words = resolve(command, cwd, env.get("PATH", os.defpath))
    except ProgramNotFound as error:
        raise CannotStart(f"cannot be started: {error}") from None
    parent = os.getpid()
    become = _identity(user)

    def begin() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, _DESCRIPTORS)
        prepare()
        become()
        # Last: the kernel forgets it when a process becomes another user.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before.
        if os.getppid() != parent:
            os._exit(127)
        if listening:
            for place, copy in zip(places, copies, strict=True):
                os.dup2(copy, place)
            # Its own pid is known only in the child; what is passed as `env` was fixed before.
            os.environ.clear()
            os.environ.update(env)
            os.environ["LISTEN_PID"] = str(os.getpid())

    places = range(_FIRST_LISTENING, _FIRST_LISTENING + len(listening))
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_LISTENING) for fd in listening]
    # The pipe by which Popen hears of a failed exec must not get one of these places.
    fillers = _fill(places)
    out, out_end = os.pipe2(os.O_CLOEXEC)
    err, err_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(out, False)
    os.set_blocking(err, False)
    try:
        popen = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out_end,
            stderr=err_end,
            env=None if listening else env,
            cwd=cwd,
            process_group=0,
            pass_fds=[*descriptors, *places],
            preexec_fn=begin,
        )
        GUARD.add(popen.pid)
        return Process(popen, out, err)
    except (OSError, subprocess.SubprocessError) as error:
        os.close(out)
        os.close(err)
        whom = f" as user {user}" if user else ""
        raise CannotStart(f"cannot be started{whom}: {command[0]}: {_why(error, cwd)}") from error
    finally:
        for fd in (out_end, err_end, *copies, *fillers):
            os.close(fd)


def inherited() -> dict[str, str]:
    """The environment that children build on: ours, without what was meant for us alone.

    PATH as commands are searched, so that what a backend starts in turn is found the same way.
    """
    env = {name: value for name, value in os.environ.items() if name not in _OWN}
    env["PATH"] = search_path(os.environ)
    return env


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """A channel's two ends; both are closed on exec unless passed as `descriptors`, which is what the second one is for."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        return ours, socket.socket(fileno=fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, _ABOVE_LISTENING))


def ending(returncode: int) -> str:
    """How a process ended, for people: "exit code 3" or "SIGSEGV"."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def uid_of(user: str) -> int | None:
    """The number of a user; None for "", or when there is none of that name."""
    import pwd

    try:
        return pwd.getpwnam(user).pw_uid if user else None
    except KeyError:
        return None


def _fill(places: Sequence[int]) -> list[int]:
    """Open descriptors until none of these numbers is free; what was opened."""
    opened: list[int] = []
    while places:
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        opened.append(fd)
        if fd >= places[-1]:
            break
    return opened


def _identity(user: str) -> Callable[[], None]:
    """What makes the new process that user's, with all of its groups. Raises CannotStart."""
    if not user:
        return lambda: None
    import pwd

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise CannotStart(f"cannot be started as user {user}: there is no such user") from None
    if os.geteuid():
        if os.geteuid() == entry.pw_uid:
            return lambda: None
        raise CannotStart(f"cannot be started as user {user}: that needs root")
    groups = os.getgrouplist(user, entry.pw_gid)

    def become() -> None:
        os.setgroups(groups)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)

    return become


def _why(error: Exception, cwd: str) -> str:
    if isinstance(error, OSError):
        if isinstance(error, FileNotFoundError) and not os.path.isdir(cwd):
            return f"its working directory {cwd} is not there"
        return error.strerror or str(error)
    return str(error)
