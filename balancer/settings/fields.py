"""The types of the model's fields: how each is read, shown again and described to an editor."""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from balancer.settings import units, values
from balancer.settings.address import Address, is_ip, parse_address, parse_backend_address


@dataclass(frozen=True)
class Written:
    """Annotation of a type that the file writes in its own way.

    parse: what the file holds → the value, raises ValueError; show: the value → as a person would write it; schema: JSON Schema of
    the file's form.
    """

    parse: Callable[[Any], Any]
    show: Callable[[Any], str]
    schema: dict[str, Any]
    resolve: Callable[[Any, str], Any] | None = None  # (value, the file's folder) → value: for paths

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any, info: ValidationInfo) -> Any:
            parsed = self.parse(value)
            return self.resolve(parsed, (info.context or {}).get("folder", "")) if self.resolve else parsed

        return core_schema.with_info_plain_validator_function(read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


def _beside(value: Any, folder: str) -> Any:
    """A relative path of the file means: relative to the file's folder."""
    if isinstance(value, Address):
        return replace(value, path=_beside(value.path, folder)) if value.is_unix else value
    return os.path.normpath(os.path.join(folder, value)) if value else value


def _beside_unless_word(value: str, folder: str) -> str:
    return value if value in ("off", "stderr") else str(_beside(value, folder))


def _at_least(parse: Callable[[Any], Any], least: float, text: str) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        parsed = parse(value)
        if parsed < least:
            raise ValueError(f"{units.shown(value)} is too small; expected {text}")
        return parsed

    return checked


def _parse_text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{units.shown(value)} is not a path; expected a string")
    return value


def _parse_folder(value: Any) -> str:
    return _parse_text(value) or "."


def _parse_unlimited_size(value: Any) -> int:
    return 0 if value == "unlimited" else units.parse_size(value)


def _parse_core(value: Any) -> int | None:
    return None if value == "" else -1 if value == "unlimited" else units.parse_size(value)


def _show_core(value: int | None) -> str:
    return '""' if value is None else '"unlimited"' if value < 0 else f'"{units.format_size(value)}"'


def _parse_access(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f'{units.shown(value)} is no place for the access log; expected "off", "stderr" or a path')
    return value


def _parse_host(value: Any) -> str:
    # No name: "localhost" is ::1 to one program and 127.0.0.1 to another.
    if isinstance(value, str) and is_ip(value):
        return value
    raise ValueError(f'{units.shown(value)} is not an IP address; expected one such as "127.0.0.1" or "::1"')


def _parse_group_address(value: Any) -> Address | None:
    return None if value == "" else parse_backend_address(value)


def _parse_admin_address(value: Any) -> Address | None:
    return None if value == "" else parse_address(value)


def _parse_max_age(value: Any) -> float:
    return 0.0 if value == "" else units.parse_duration(value)


def _show_text(value: Any) -> str:
    return f'"{value}"'


def _text(**schema: Any) -> dict[str, Any]:
    return {"type": "string", **schema}


_DURATION = _text(pattern=units.DURATION_PATTERN, minLength=2)
_POSITIVE = _at_least(units.parse_duration, 1e-6, "more than 0s")
_HOST_AND_PORT = r"\[[0-9A-Fa-f:.%]+\]:[0-9]{1,5}|[^:/\[\]]+:[0-9]{1,5}"
_ADDRESS = _text(pattern=f"^(unix:.+|{_HOST_AND_PORT})$")
_COUNT = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1000}, {"const": "auto"}]}
_BACKEND_COUNT = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 1000}, {"enum": ["auto", "max"]}]}
_COMMAND = {
    "anyOf": [_text(), {"type": "array", "items": {"type": "string"}, "minItems": 1}],
}


def _show_duration(value: float) -> str:
    return f'"{units.format_duration(value)}"'


Duration = Annotated[float, Written(units.parse_duration, _show_duration, _DURATION)]
"""Seconds, from 0 on."""
PositiveDuration = Annotated[float, Written(_POSITIVE, _show_duration, _DURATION)]
"""Seconds, more than 0."""
MaxAge = Annotated[
    float,
    Written(_parse_max_age, _show_duration, _text(pattern=f"^$|{units.DURATION_PATTERN}")),
]
"""Seconds; 0 when left empty."""
Size = Annotated[
    int, Written(units.parse_size, lambda v: f'"{units.format_size(v)}"', _text(pattern=units.SIZE_PATTERN))
]
"""Bytes, from 0 on."""
CoreSize = Annotated[
    int | None,
    Written(_parse_core, _show_core, _text(pattern=f"^$|^unlimited$|{units.SIZE_PATTERN}")),
]
"""Bytes; -1 for no limit, None when left empty."""
Umask = Annotated[
    int | None,
    Written(values.parse_umask, lambda v: f'"{"" if v is None else f"{v:03o}"}"', _text(pattern="^[0-7]{0,4}$")),
]
"""None when left empty."""
CpuSet = Annotated[
    values.Cpus,
    Written(values.parse_cpus, _show_text, _text(pattern=r"^$|^spread$|^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$")),
]
HeadSize = Annotated[
    int,
    Written(
        _at_least(units.parse_size, 1024, 'at least "1KiB"'),
        lambda v: f'"{units.format_size(v)}"',
        _text(pattern=units.SIZE_PATTERN),
    ),
]
"""Bytes, at least 1024: less than that, and an ordinary browser is refused."""
FileSize = Annotated[
    int,
    Written(
        _at_least(units.parse_size, 1024, 'at least "1KiB"'),
        lambda v: f'"{units.format_size(v)}"',
        _text(pattern=units.SIZE_PATTERN),
    ),
]
"""Bytes, at least 1024: smaller files would be exchanged all the time."""
SizeLimit = Annotated[
    int,
    Written(
        _parse_unlimited_size,
        lambda v: f'"{units.format_size(v) if v else "unlimited"}"',
        _text(pattern=f"^unlimited$|{units.SIZE_PATTERN}"),
    ),
]
"""Bytes; 0 is no limit."""
Share = Annotated[
    float,
    Written(
        units.parse_percentage, lambda v: f'"{units.format_percentage(v)}"', _text(pattern=units.PERCENTAGE_PATTERN)
    ),
]
"""A fraction from 0 to 1."""
Excess = Annotated[
    float,
    Written(units.parse_excess, lambda v: f'"{units.format_percentage(v)}"', _text(pattern=units.EXCESS_PATTERN)),
]
"""How much more than something, as a fraction of it: 1 is twice as much."""
LocalPath = Annotated[str, Written(_parse_text, _show_text, _text(), resolve=_beside)]
"""An absolute path, or '' for none."""
Folder = Annotated[str, Written(_parse_folder, _show_text, _text(), resolve=_beside)]
"""An absolute path."""
ListenAddress = Annotated[Address, Written(parse_address, _show_text, _ADDRESS, resolve=_beside)]
GroupAddress = Annotated[
    Address | None,
    Written(
        _parse_group_address,
        lambda v: f'"{v or ""}"',
        _text(pattern=f"^(srv:.+|unix:.+|{_HOST_AND_PORT})$"),
        resolve=_beside,
    ),
]
"""None when the group is spawned here."""
AdminAddress = Annotated[
    Address | None,
    Written(
        _parse_admin_address,
        lambda v: f'"{v or ""}"',
        _text(pattern=f"^$|{_ADDRESS['pattern']}"),
        resolve=_beside,
    ),
]
"""None when it is turned off."""
BackendHost = Annotated[str, Written(_parse_host, _show_text, _text(minLength=1))]
Command = Annotated[tuple[str, ...], Written(values.parse_command, lambda v: _show_text(shlex.join(v)), _COMMAND)]
"""Words; empty when there is none."""
Count = Annotated[
    int | Literal["auto"], Written(values.parse_count, lambda v: f'"{v}"' if v == "auto" else str(v), _COUNT)
]
BackendCount = Annotated[
    int | Literal["auto"],
    Written(values.parse_backend_count, lambda v: f'"{v}"' if v == "auto" else str(v), _BACKEND_COUNT),
]
"""As `Count`; 0 and "max" are read as "auto"."""
Ports = Annotated[
    values.PortRange | None,
    Written(
        values.parse_ports, lambda v: f'"{v or "ephemeral"}"', _text(pattern=r"^(ephemeral|[0-9]{1,5}-[0-9]{1,5})$")
    ),
]
"""None: the kernel chooses."""
Statuses = Annotated[
    values.StatusSet,
    Written(
        values.parse_statuses,
        _show_text,
        _text(pattern=r"^\s*[1-5]\d\d(-[1-5]\d\d)?(\s*,\s*[1-5]\d\d(-[1-5]\d\d)?)*\s*$"),
    ),
]
SurgeSize = Annotated[
    values.Surge,
    Written(
        values.parse_surge,
        lambda v: str(v) if v.count else f'"{v}"',
        {"anyOf": [{"type": "integer", "minimum": 1}, _text(pattern=units.PERCENTAGE_PATTERN)]},
    ),
]
Rate = Annotated[
    float,
    Written(values.parse_rate, lambda v: f'"{values.format_rate(v)}"', _text(pattern=r"^([0-9]+/(s|m|h))?$")),
]
"""Per second; 0 is no limit."""
DnsServer = Annotated[Address, Written(values.parse_dns_server, _show_text, _text())]
Network = Annotated[str, Written(values.parse_network, _show_text, _text())]
Token = Annotated[str, Written(values.parse_token, _show_text, _text(minLength=1))]
OptionalToken = Annotated[str, Written(values.parse_optional_token, _show_text, _text())]
HashKey = Annotated[
    str, Written(values.parse_hash_key, _show_text, _text(pattern=r"^(client-ip|uri|(header|cookie):.+)$"))
]
ServerHeader = Annotated[str, Written(values.parse_server_header, _show_text, _text(minLength=1))]
Pattern = Annotated[str, Written(values.parse_pattern, _show_text, _text(format="regex"))]
HostPattern = Annotated[str, Written(values.parse_host_pattern, _show_text, _text())]
RoutePath = Annotated[str, Written(values.parse_route_path, _show_text, _text(pattern="^(/.*)?$"))]
NotesFolder = Annotated[str, Written(_parse_text, _show_text, _text(), resolve=_beside_unless_word)]
"""An absolute path, '' for the usual place, or 'off'."""
AccessLog = Annotated[str, Written(_parse_access, _show_text, _text(minLength=1), resolve=_beside_unless_word)]
"""'off', 'stderr' or an absolute path."""
HeaderRule = Annotated[str, Written(values.parse_header_rule, _show_text, _text())]
"""'Name' or 'Name: value', or '' for none."""
CookieRule = Annotated[str, Written(values.parse_cookie_rule, _show_text, _text())]
"""'name' or 'name=value', or '' for none."""
