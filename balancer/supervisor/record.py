"""Everything that is written down: the log, events, what backends wrote, notes about those that ended badly. Made once."""

import sys
from collections.abc import Callable
from typing import Any, Final

from balancer.settings.cpus import usable_cpus
from balancer.settings.model import Settings
from balancer.supervisor.forensics import Forensics
from balancer.supervisor.limits import crowd
from balancer.supervisor.spawn import uid_of
from balancer.telemetry import access_log
from balancer.telemetry.console import Console, takes_colour
from balancer.telemetry.events import Event, Events
from balancer.telemetry.log import Log
from balancer.telemetry.log_files import FileSettings, LogFiles
from balancer.telemetry.logs import Logs

_WARNINGS: Final = frozenset(
    {
        "crashed",
        "hung",
        "watch failed",
        "silent",
        "quarantined",
        "hold",
        "start failed",
        "unhealthy",
        "drain timeout",
        "ejected",
        "not ejected",
        "name not resolved",
        "certificates rejected",
        "proxy died",
        "proxy stuck",
        "reload failed",
        "rolled back",
        "channel taken",
        "connection refused",
        "listen refused",
        "recycle failed",
        "restart failed",
        "scale failed",
    }
)


class Record:
    """Its parts, and what a reload changes about them."""

    def __init__(self, settings: Settings, closers: list[Callable[[], object]]) -> None:
        """closers: gets what is to be called at the end."""
        self.console = Console(grace=1.0)
        closers.append(self.console.close)
        coloured = takes_colour(sys.stderr)
        log = settings.log
        self.log = Log(self.console, log.level, log.format, coloured)
        self.files = LogFiles(_files(settings), on_problem=self.log.error)
        closers.append(self.files.close)
        self.logs = Logs(self.console, coloured, log.format, self.files)
        self.forensics = Forensics("", self.logs.last_of)
        self.events = Events(on_record=self._log_event)
        self._proxy_user = settings.proxy.user  # a reload does not change it
        self._access = ""
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """From now on."""
        self.log.set(settings.log.level, settings.log.format)
        self.files.settings = _files(settings)
        self.logs.files_as_json = settings.log.backends_format == "json"
        self.forensics.folder = settings.forensics_folder
        self._access = settings.log.access
        self.give_access_log()
        pools = settings.pool.values()
        backends = sum(group.backend_count for pool in pools for group in pool.groups if group.is_spawned)
        if warning := crowd(backends, usable_cpus()):
            self.log.warning(warning)

    def give_access_log(self) -> None:
        """Make its file, if the proxies may not; to be called before they open it."""
        uid = uid_of(self._proxy_user)
        if uid is not None and self._access not in ("off", "stderr"):
            access_log.give(self._access, uid)

    def _log_event(self, event: Event) -> None:
        fields: dict[str, Any] = dict(event.detail)
        if event.generation:
            fields["generation"] = event.generation
        subject = event.backend or (f"pool {event.pool}" if event.pool else "")
        self.log.write(
            "warning" if event.kind in _WARNINGS else "info",
            f"{subject} {event.kind}" if subject else event.kind,
            fields,
        )


def _files(settings: Settings) -> FileSettings:
    return FileSettings(settings.log.backends, settings.log.max_size, settings.log.max_files)
