"""A line per request, for proxies: Apache's combined format, or JSON with what only a balancer knows.

Never in a request's way: lines are gathered and written by `flush`, which the proxy calls a few times a second. What cannot be
written (disk full, nobody reads the pipe) is dropped and counted.
"""

import errno
import json
import os
import re
import stat
import time
from typing import Final

FLUSH_AT: Final = 64 * 1024  # bytes gathered that are written without waiting for the next `flush`
HELD: Final = 1024 * 1024  # bytes kept for a pipe that is full, before lines are dropped
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# What could end a field or a line early, or speak to a terminal; as nginx's default escaping.
_UNSAFE: Final = re.compile(rb'[\x00-\x1f\x7f-\xff"\\]')


class AccessLog:
    """Appends to one file or descriptor.

    written, dropped: lines; problem: why the file cannot be written now, "" when it can.
    """

    def __init__(self, where: str, format: str, *, output: int = 1) -> None:  # noqa: A002
        """where: "stderr" or a path; format: "combined" or "json". Does not raise: see `problem`.

        output: the descriptor for "stderr". A proxy's stdout: the supervisor reads it and writes its lines to the balancer's
        stderr as they are, while what a proxy says on its own stderr is shown with the proxy's name before it.
        """
        self.written = 0
        self.dropped = 0
        self.problem = ""
        self._path = "" if where == "stderr" else where
        self._is_json = format == "json"
        self._lines: list[bytes] = []
        self._size = 0  # bytes in _lines and _rest
        self._next_flush = FLUSH_AT
        self._rest = b""  # of a piece that was written in part: the next bytes must be these
        self._rest_lines = 0
        self._second = -1
        self._clock = ""
        self._fd = -1
        if self._path:
            self._open()
        else:
            self._fd = output
            if stat.S_ISFIFO(os.fstat(output).st_mode):
                # The supervisor reads it; if it is too slow, lines are dropped and requests go on.
                os.set_blocking(output, False)

    def write(
        self,
        *,
        client: str,
        method: bytes,
        target: bytes,
        minor: int,
        status: int,
        sent: int,
        seconds: float,
        referer: bytes = b"",
        user_agent: bytes = b"",
        pool: str = "",
        backend: str = "",
        request_id: bytes = b"",
        reason: str = "",
    ) -> None:
        """One finished request.

        target: as the client sent it; minor: of its HTTP/1 version; sent: body bytes to the client; seconds: from its first
        byte to the last of the response; reason: of the fault, "" for none. Plain: no system call but each 64 KiB.
        """
        if self._size >= HELD:
            self.dropped += 1
            return
        now = time.time()
        if self._is_json:
            line = self._json(
                now,
                client=client,
                method=_text(method),
                target=_text(target),
                version=f"1.{minor}",
                status=status,
                bytes=sent,
                seconds=round(seconds, 6),
                pool=pool,
                backend=backend,
                request_id=_text(request_id),
                reason=reason,
                referer=_text(referer),
                user_agent=_text(user_agent),
            )
        else:
            line = b'%s - - [%s] "%s %s HTTP/1.%d" %d %s "%s" "%s"\n' % (
                client.encode() or b"-",
                self._local_time(now).encode(),
                _safe(method),
                _safe(target),
                minor,
                status,
                b"%d" % sent if sent else b"-",
                _safe(referer) or b"-",
                _safe(user_agent) or b"-",
            )
        self._lines.append(line)
        self._size += len(line)
        if self._size >= self._next_flush:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered, whole lines in one piece (O_APPEND: several proxies may share the file)."""
        if self._fd < 0:
            self._drop()
            return
        while self._rest or self._lines:
            if not self._rest:
                self._rest, self._rest_lines = b"".join(self._lines), len(self._lines)
                self._lines.clear()
            try:
                count = os.write(self._fd, self._rest)
            except BlockingIOError:
                self._next_flush = self._size + FLUSH_AT  # a full pipe: later
                return
            except OSError as error:
                self.problem = f"access log {self._path or 'on stderr'}: {error.strerror}"
                self._drop()
                return
            self._rest = self._rest[count:]
            self._size -= count
            if not self._rest:
                self.written += self._rest_lines
                self.problem = ""
        self._next_flush = FLUSH_AT

    def reopen(self) -> None:
        """Go on in a new file of the same name: logrotate has moved the old one."""
        self.flush()
        if self._path:
            if self._fd >= 0:
                os.close(self._fd)
            self._open()

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        if self._path and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._fd = -1
        try:
            # Non-blocking for the sake of a FIFO: to open one that nobody reads would wait for ever.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._fd = os.open(self._path, flags, 0o640)
            self.problem = ""
        except OSError as error:
            why = "nobody reads it" if error.errno == errno.ENXIO else error.strerror
            self.problem = f"access log {self._path}: {why}"

    def _drop(self) -> None:
        self.dropped += len(self._lines) + (self._rest_lines if self._rest else 0)
        self._lines.clear()
        self._rest = b""
        self._size = 0

    def _local_time(self, now: float) -> str:
        """[20/Nov/2026:09:00:00 +0000] without its brackets; the month is English in every locale."""
        second = int(now)
        if second != self._second:
            parts = time.localtime(second)
            self._second = second
            self._clock = time.strftime(f"%d/{_MONTHS[parts.tm_mon - 1]}/%Y:%H:%M:%S %z", parts)
        return self._clock

    def _json(self, now: float, **fields: str | int | float) -> bytes:
        """Fields without a value are left out."""
        return json.dumps({"time": round(now, 6)} | {k: v for k, v in fields.items() if v != ""}).encode() + b"\n"


def give(where: str, uid: int) -> None:
    """Make the file, and make it this user's, who may not write to its folder: a proxy does not run as root. Does not raise.

    Never through a link: whoever may write to the folder could have any file made theirs by it.
    """
    try:
        fd = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, 0o640)
    except OSError:
        return  # the proxies will say why
    try:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            os.fchown(fd, uid, -1)
    except OSError:
        pass  # likewise
    finally:
        os.close(fd)


def _safe(value: bytes) -> bytes:
    return _UNSAFE.sub(lambda found: b"\\x%02X" % found[0][0], value)


def _text(value: bytes) -> str:
    """For JSON, which escapes the rest itself; bytes that are not UTF-8 stay readable."""
    return value.decode("utf-8", "backslashreplace")
