"""Which pool a request goes to: the first `[[route]]` whose host and path match, else the listener's own pool.

Hosts compare without case and without port; "*.example.com" is any name below example.com. A path is a prefix that ends on a
segment border ("/v1" and "/v1/" take /v1 and /v1/users, not /v10). Targets are compared as they came: percent
and dot segments are the backend's business, so that no two parsers can disagree about them here.
"""

from balancer.pool.snapshot import RoutePicture


class Route:
    """One route, prepared for bytes."""

    __slots__ = ("_host", "_prefix", "_suffix", "pool", "strip_prefix")

    def __init__(self, picture: RoutePicture) -> None:
        host = picture.host.lower().encode("latin-1")
        self._suffix = host[1:] if host.startswith(b"*.") else b""
        self._host = b"" if self._suffix else host
        self._prefix = picture.path.rstrip("/").encode("latin-1")
        self.pool = picture.pool
        self.strip_prefix = picture.strip_prefix

    def matches(self, host: bytes, path: bytes) -> bool:
        """host: lower case, without port; path: the target up to "?"."""
        if self._host and host != self._host:
            return False
        if self._suffix and not host.endswith(self._suffix):
            return False
        prefix = self._prefix
        return not prefix or (path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/"))

    def stripped(self, target: bytes) -> bytes:
        """The target without the prefix; always a path."""
        rest = target[len(self._prefix) :]
        return rest if rest.startswith(b"/") else b"/" + rest


def find(routes: tuple[Route, ...], host: bytes, target: bytes) -> Route | None:
    """The first route that takes a request with this Host value and target."""
    name = bare_host(host)
    path = target.partition(b"?")[0]
    for route in routes:
        if route.matches(name, path):
            return route
    return None


def bare_host(host: bytes) -> bytes:
    """A Host value in lower case, without its port and without the dot of a fully qualified name."""
    name = host.lower()
    if name.startswith(b"["):
        return name[: name.find(b"]") + 1]
    return name.partition(b":")[0].removesuffix(b".")
