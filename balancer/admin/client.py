"""How the command line talks to a running balancer: HTTP over the control socket, with the standard library only.

Every wait has a deadline: the API sends a sign of life on each stream every few seconds, so silence means that it hangs.
"""

import http.client
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from balancer.errors import BalancerError

CONNECT_TIMEOUT = 5.0
SILENCE = 60.0  # seconds without a byte on an open stream or for an answer; `api.Limits.heartbeat` is well below
LINE = 16 * 1024 * 1024  # the longest line of an answer that is believed


class NotRunning(BalancerError):
    """Nobody answers on the control socket."""


class NoAnswer(BalancerError):
    """The balancer is there and did not answer in time, broke off, or answered nonsense."""


class Refused(BalancerError):
    """The balancer answered with an error; `status` is the HTTP one."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Asks the balancer behind one control socket; a connection per question."""

    def __init__(self, control_socket: Path, config: Path, silence: float = SILENCE) -> None:
        self._path = control_socket
        self._config = config
        self._silence = silence

    def pid(self) -> int:
        """The process that listens there (unix(7), SO_PEERCRED); 0 when it is in another pid namespace. Raises NotRunning."""
        with closing(self._connect()) as connection:
            credentials = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return int(struct.unpack("3i", credentials)[0])

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer of a GET. Raises NotRunning, NoAnswer, Refused."""
        with self._answer("GET", path, query) as answer:
            return _parse(answer.read())

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON answer of a POST. Raises NotRunning, NoAnswer, Refused."""
        with self._answer("POST", path, {}, body) as answer:
            return _parse(answer.read())

    def stream(self, method: str, path: str, body: Any = None, **query: Any) -> Iterator[Any]:
        """Each JSON line of an answer (or each `data:` of server-sent events) as it comes. Raises as `get`, also half-way."""
        with self._answer(method, path, query, body) as answer:
            while line := answer.readline(LINE):
                text = line.strip().removeprefix(b"data:").strip()
                if text and text[:1] in b'{["':  # other lines: signs of life, and the fields `id:` and `event:`
                    value = _parse(text)
                    if isinstance(value, dict) and value.keys() == {"error"}:
                        raise Refused(409, str(value["error"]))
                    yield value

    @contextmanager
    def _answer(
        self, method: str, path: str, query: dict[str, Any], body: Any = None
    ) -> Iterator[http.client.HTTPResponse]:
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Content-Type": "application/json"} if body is not None else {}
        with closing(self._connect()) as connection:
            try:
                connection.request(method, target, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
                if answer.status >= 400:
                    raise Refused(answer.status, _message(answer))
                yield answer
            except TimeoutError:
                raise NoAnswer(f"the balancer did not answer within {self._silence:g} s") from None
            except (OSError, http.client.HTTPException) as error:
                raise NoAnswer(f"the balancer broke off its answer: {error or type(error).__name__}") from None

    def _connect(self) -> "_UnixConnection":
        connection = _UnixConnection(self._path, self._silence)
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            raise NotRunning(
                f"no balancer is running with {self._config} (nothing answers on its control socket {self._path})"
            ) from None
        except OSError as error:
            connection.close()
            raise NotRunning(f"control socket {self._path}: {error.strerror or error}") from None
        return connection


class _UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path: Path, silence: float) -> None:
        super().__init__("localhost", timeout=silence)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_TIMEOUT)
        self.sock.connect(str(self._path))
        self.sock.settimeout(self.timeout)


def _message(answer: http.client.HTTPResponse) -> str:
    try:
        return str(json.loads(answer.read(LINE))["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status} {answer.reason}"


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise NoAnswer(f"the balancer's answer is not JSON: {text[:80]!r}") from None
