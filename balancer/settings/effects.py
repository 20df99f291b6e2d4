"""What a change of each key costs: the one table that decides between applying it live, new backends and a restart."""

from enum import IntEnum

Pattern = tuple[str, ...]


class Effect(IntEnum):
    """From the least to the most."""

    LIVE = 0
    """Applied to running processes; no request notices."""
    COUNT = 1
    """Backends are started or drained; those that stay are not replaced."""
    RESPAWN = 2
    """The backends of the pool are replaced, one by one."""
    RESTART = 3
    """Needs a restart of the balancer; a reload leaves it as it was and says so."""


def _rows(table: str, effect: Effect, keys: str) -> dict[Pattern, Effect]:
    place = tuple(table.split(".")) if table else ()
    return {(*place, key): effect for key in keys.split()}


_LIVE, _COUNT, _RESPAWN, _RESTART = Effect.LIVE, Effect.COUNT, Effect.RESPAWN, Effect.RESTART
_POOL, _GROUP = "pool.*", "pool.*.group.*"

EFFECTS: dict[Pattern, Effect] = {
    # A socket is bound once, for as long as the balancer runs; a listener that is new is opened at once (`changes.is_openable`).
    **_rows("listen.*", _RESTART, "address backlog"),
    **_rows("listen.*", _LIVE, "proxy_protocol trusted_proxies pool redirect ready_path"),
    **_rows("listen.*.limit", _LIVE, "connections requests burst allow deny"),
    # For new connections; a session that is resumed counts as one.
    **_rows("listen.*.tls", _LIVE, "min_version client_auth client_ca client_crl handshake_timeout hsts"),
    **_rows("listen.*.tls.certificates.*", _LIVE, "cert key"),
    **_rows("proxy", _RESTART, "processes user"),
    **_rows("proxy", _LIVE, "header_timeout idle_timeout body_timeout max_header_size max_headers max_body_size"),
    **_rows("proxy", _LIVE, "max_connections shutdown_delay shutdown_timeout server_header request_id_header"),
    **_rows("route.*", _LIVE, "host path pool strip_prefix"),
    # What a process got when it started, it keeps.
    **_rows(_POOL, _RESPAWN, "command cwd env user host ports handover"),
    # Who accepts on a listener is settled when it is bound.
    **_rows(_POOL, _RESTART, "mode"),
    **_rows(_POOL, _COUNT, "backends"),
    **_rows(_POOL, _LIVE, "weight backup policy hash_on sticky_cookie connect_timeout response_timeout retries"),
    **_rows(
        _POOL,
        _LIVE,
        "retry_budget sticky_attributes sticky_key_file concurrency queue queue_timeout keep_alive keep_alive_timeout slow_start pass_host "
        "backend_header",
    ),
    **_rows(_GROUP, _RESPAWN, "command cwd env user"),
    **_rows(_GROUP, _COUNT, "backends"),
    # Nothing of ours runs behind an address.
    **_rows(_GROUP, _LIVE, "weight backup address name share match_header match_cookie"),
    **_rows(f"{_GROUP}.tls", _LIVE, "verify ca server_name cert key"),
    **_rows(f"{_POOL}.ready", _LIVE, "when timeout warmup"),
    **_rows(f"{_POOL}.health", _LIVE, "path status body interval timeout rise fall heartbeat hang_timeout dump_signal"),
    **_rows(f"{_POOL}.eject", _LIVE, "failures time max success_margin panic"),
    **_rows(f"{_POOL}.limits", _RESPAWN, "open_files core address_space cpu nice umask cpus"),
    # Not the kernel's, but ours to look at.
    **_rows(f"{_POOL}.limits", _LIVE, "memory"),
    **_rows(f"{_POOL}.quarantine", _LIVE, "after time max"),
    **_rows(f"{_POOL}.restart", _LIVE, "delay max_delay healthy_after max_crashes"),
    **_rows(f"{_POOL}.restart", _LIVE, "max_memory max_requests max_age watch"),
    **_rows(f"{_POOL}.stop", _LIVE, "drain_timeout signal message timeout"),
    **_rows(f"{_POOL}.rollout", _LIVE, "surge observe max_error_rate max_slowdown min_requests on_inconclusive"),
    **_rows("dns", _LIVE, "servers timeout family"),
    **_rows("admin", _RESTART, "address token_file control_socket"),
    **_rows("log", _LIVE, "level access access_format backends backends_format max_size max_files forensics"),
    **_rows("log", _RESTART, "format"),
}


def effect_of(pattern: Pattern) -> Effect:
    """Of a key, or of a whole table: then of whatever in it costs most. Raises KeyError for a key without a row."""
    if pattern in EFFECTS:
        return EFFECTS[pattern]
    inside = [effect for key, effect in EFFECTS.items() if key[: len(pattern)] == pattern]
    if not inside:
        raise KeyError(".".join(pattern))
    return max(inside)
