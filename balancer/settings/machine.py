"""What the settings need from this machine: programs, folders, files, users."""

import os
import pwd
from collections.abc import Iterator, Mapping

from balancer.settings.checks import Finding
from balancer.settings.model import Settings
from balancer.settings.problems import Key
from balancer.settings.programs import ProgramNotFound, resolve, search_path


def findings(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything that the settings name and this machine does not have."""
    yield from _pools(settings, environ)
    yield from _user(("proxy", "user"), settings.proxy.user)
    yield from _files(settings)


def _pools(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    for name, pool in settings.pool.items():
        key: Key = ("pool", name)
        yield from _user((*key, "user"), pool.user)
        for index, group in enumerate(pool.groups):
            place: Key = (*key, "group", index) if pool.group else key
            if pool.group and group.user != pool.user:
                yield from _user((*place, "user"), group.user)
            if not group.is_spawned or not group.command:
                continue
            if not os.path.isdir(group.cwd):
                yield Finding((*place, "cwd"), f"'{group.cwd}' is not a folder")
                continue
            try:
                resolve(group.command, group.cwd, group.env.get("PATH") or search_path(environ))
            except ProgramNotFound as error:
                yield Finding(
                    (*place, "command"), str(error), about=((*place, "command"), (*place, "cwd"), (*place, "env"))
                )


def _user(key: Key, name: str) -> Iterator[Finding]:
    if not name:
        return
    try:
        uid = pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        yield Finding(key, f"there is no user '{name}'")
        return
    if os.geteuid() not in (0, uid):
        yield Finding(key, f"running as '{name}' needs root; the balancer runs as another user")


def _files(settings: Settings) -> Iterator[Finding]:
    token_file = settings.admin.token_file
    if token_file:
        try:
            with open(token_file, "rb") as file:
                if not file.read(4096).strip():
                    yield Finding(("admin", "token_file"), f"'{token_file}' is empty; expected a token in it")
        except OSError as error:
            yield Finding(("admin", "token_file"), f"'{token_file}' cannot be read: {reason(error)}")
    places: list[tuple[Key, str]] = [(("admin", "control_socket"), settings.control_socket)]
    if settings.log.access not in ("off", "stderr"):
        places.append((("log", "access"), settings.log.access))
    places += [((("listen", n, "address")), a.path) for n, a in settings.addresses().items() if a.is_unix]
    for key, path in places:
        if not os.path.isdir(os.path.dirname(path)):
            yield Finding(key, f"'{path}' cannot be made: its folder does not exist")


def reason(error: OSError) -> str:
    """What the system says, in lower case as part of a sentence."""
    return (error.strerror or str(error)).lower()
