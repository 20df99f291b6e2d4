"""[pool.NAME] and its parts: every key with its default, and why it is that."""

from typing import Annotated, Literal

from pydantic import Field

from balancer.settings.cpus import usable_cpus
from balancer.settings.fields import (
    BackendCount,
    BackendHost,
    Command,
    CookieRule,
    CoreSize,
    CpuSet,
    Duration,
    Excess,
    Folder,
    GroupAddress,
    HashKey,
    HeaderRule,
    LocalPath,
    OptionalToken,
    Pattern,
    Ports,
    PositiveDuration,
    Share,
    Size,
    Statuses,
    SurgeSize,
    Umask,
)
from balancer.settings.section import Section, key, part

MAX_WEIGHT = 1000


class GroupTls(Section):
    """TLS towards the backends of a group."""

    verify: bool = key(True, "false: any certificate is taken")
    ca: LocalPath = key("", "PEM file: who signs the backends' certificates; default: the system's")
    server_name: str = key("", "the name in the certificate; default: the address's host")
    cert: LocalPath = key("", "PEM file: the certificate shown to the backend")
    key: LocalPath = key("", "PEM file: its private key")


class Group(Section):
    """One [[pool.NAME.group]]: a part of a pool with its own command or address, and weight."""

    command: Command = key("", "spawned here; as a pool's command")
    backends: BackendCount = key(1, 'a number, or "auto" (also "max", 0): one per usable CPU')
    weight: int = key(1, "0: gets nothing until changed", least=0, most=MAX_WEIGHT)
    backup: bool = key(False, "true: gets requests only when no other backend can")
    cwd: Folder = key(".", "relative to the file's folder")
    env: dict[str, str] = key({}, "added to the environment; placeholders are filled in")
    user: str = key("", "run as this user (needs root); default: the pool's")
    address: GroupAddress = key(
        "",
        'running elsewhere: not started, only probed; host:port, unix:/path, or "srv:_http._tcp.app.internal" for SRV records; '
        "a name with several addresses is several backends, looked up again as its DNS records expire",
    )
    name: OptionalToken = key("", "how status and metrics call it; left out: its number, from 0")
    share: Share = key("0%", "above 0: exactly this part of the pool's requests, however many backends it has")
    match_header: HeaderRule = key(
        "", '"Name" or "Name: value": requests that carry it go here, and without a share only they'
    )
    match_cookie: CookieRule = key("", '"name" or "name=value": likewise')
    tls: GroupTls | None = key(None, "speak TLS to the backends of this group")

    @property
    def is_spawned(self) -> bool:
        """Whether its backends are processes of ours."""
        return self.address is None

    @property
    def is_named(self) -> bool:
        """Whether its backends are the addresses of a name, however many those are."""
        return self.address is not None and self.address.is_name

    @property
    def backend_count(self) -> int:
        """How many backends: "auto" resolved for this machine, now; 1 for an address, 0 for a name, as only looking it up tells."""
        if not self.is_spawned:
            return 0 if self.is_named else 1
        return usable_cpus() if self.backends == "auto" else self.backends


class Ready(Section):
    """When a new process may take requests."""

    when: Literal["probe", "message"] = key(
        "probe",
        '"probe": the health probe passes (TCP accept if there is no path); "message": the backend says so',
    )
    timeout: PositiveDuration = key("30s", "then this start has failed: a timeout is never a success")
    warmup: Annotated[tuple[str, ...], Field(strict=False)] = key(
        (),
        'paths that are asked for one after the other before the process counts as ready, such as ["/", "/search?q=a"]; '
        "each must get a status of health.status, within timeout",
    )


class Health(Section):
    """Active health: what is asked of a backend, and what its answers mean."""

    path: str = key("", '"": a TCP connect is the probe; "/healthz": GET, and status is checked')
    status: Statuses = key("200-399", 'statuses that pass, such as "200-399" or "200,204"')
    body: Pattern = key("", "a regular expression that the body must contain")
    interval: PositiveDuration = key("2s", "between two probes of one backend")
    timeout: PositiveDuration = key("2s", "for one probe, from connect to the end")
    rise: int = key(2, "passes in a row until healthy again", least=1, most=100)
    fall: int = key(3, "failures in a row until unhealthy", least=1, most=100)
    heartbeat: Duration = key(
        "0s",
        "above 0: a backend that for so long sends no heartbeat, moves no byte of a response and passes no probe is killed and "
        "restarted; it should send one three times as often, and gets no new requests when one is late",
    )
    hang_timeout: Duration = key(
        "0s",
        "above 0: a backend that for so long neither answers its probe (which needs path) nor moves a byte of a response is killed "
        "and restarted, heartbeats or not; 0s: that is only said",
    )
    dump_signal: Literal["", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGABRT", "SIGTRAP"] = key(
        "",
        "sent a second before a hung backend is killed, so that it writes its stack to stderr: SIGUSR1 with Python's "
        "faulthandler.register, SIGQUIT for Go and Java",
    )


class Eject(Section):
    """Passive health: judged from real traffic."""

    failures: int = key(
        5, "connect errors, timeouts, broken responses and 502/503/504 in a row; 0: off", least=0, most=10_000
    )
    time: PositiveDuration = key("10s", "out of rotation for this long, longer each time")
    max: Share = key("50%", "never more than this share of a pool")
    success_margin: Share = key(
        "0%",
        "above 0: a backend goes too when, over 10 s, its share of successes is lower than the others' by more than this",
    )
    panic: Share = key("50%", "when fewer than this share of a pool take requests, ejected ones are used all the same")


class Quarantine(Section):
    """Requests that keep killing backends (`balancer status --json` names them) are refused for a while."""

    after: int = key(
        0,
        "above 0: a kind of request (method and path) gets 503 once so many backends crashed with it in flight and none of "
        "its kind was answered since",
        least=0,
        most=1_000_000,
    )
    time: PositiveDuration = key("1m", "from the last such crash on")
    max: Share = key("5%", "never more than this share of the requests, but always 10 a second")


class Limits(Section):
    """What each backend process may use."""

    memory: Size = key(
        "0",
        "above 0: killed at once, as if it had crashed, when the resident memory of its process group is larger; looked at "
        "once a second, no cgroup is made. restart.max_memory, which is gentle, has to be smaller",
    )
    open_files: int = key(0, "descriptors (RLIMIT_NOFILE); 0: as the balancer itself was started", least=0, most=2**30)
    core: CoreSize = key("", 'of a core dump: "0" for none, a size, "unlimited"; default: as the balancer itself')
    address_space: Size = key(
        "0", "above 0: of virtual memory (RLIMIT_AS); many runtimes reserve far more than they use"
    )
    cpu: Duration = key("0s", "above 0: of CPU time in all; then SIGXCPU, and SIGKILL 5 s later")
    nice: int = key(
        0, "scheduling priority, 19 the least; below 0 needs root. 0: as the balancer itself", least=-20, most=19
    )
    umask: Umask = key("", 'such as "027"; default: as the balancer itself')
    cpus: CpuSet = key("", 'such as "0-3,6": only on these CPUs; "spread": one CPU for each backend, in turn')


class Restart(Section):
    """When a process is started again or replaced."""

    delay: Duration = key("100ms", "after a crash; doubles up to max_delay, back to delay after healthy_after")
    max_delay: Duration = key("30s", "the longest wait between two starts")
    healthy_after: Duration = key("10s", "running so long, a backend's crashes are forgotten")
    max_crashes: int = key(0, "above 0: so many crashes within a minute put the backend on hold", least=0, most=10_000)
    max_memory: Size = key("0", "above 0: drained and replaced once its resident memory is larger")
    max_requests: int = key(
        0, "drained and replaced after about so many requests (jittered by 10 %)", least=0, most=1_000_000_000
    )
    max_age: Duration = key("0s", "above 0: drained and replaced once it is older (jittered by 10 %)")
    watch: Annotated[tuple[LocalPath, ...], Field(strict=False)] = key(
        (), "paths: a rolling restart when a file under them changes; for development"
    )


class Stop(Section):
    """How a process is asked to leave."""

    drain_timeout: Duration = key("30s", "requests in flight get this long")
    signal: Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL"] = key(
        "SIGTERM", "what the app takes as a request to stop; Apache wants SIGWINCH, for one"
    )
    message: bool = key(False, 'true: also send "shutdown" over the channel')
    timeout: Duration = key("10s", "then SIGKILL to its whole process group")


class Rollout(Section):
    """Rolling restart and reload."""

    surge: SurgeSize = key(1, 'how many new ones start beside the old ones at a time ("25%" allowed)')
    observe: Duration = key(
        "0s",
        "after the first new backend takes requests, compare it with the old ones over the same window for so long",
    )
    max_error_rate: Share = key(
        "5%",
        "roll back if more of its responses are 5xx than the old ones' by this much, or it crashes",
    )
    max_slowdown: Excess = key(
        "100%",
        "roll back if its responses take longer than the old ones' by more than this, both on the mean and at the 95th percentile; "
        '"100%": twice as long',
    )
    min_requests: int = key(20, "with fewer, the comparison says nothing", least=1, most=1_000_000_000)
    on_inconclusive: Literal["continue", "rollback"] = key("continue", "what to do when the comparison says nothing")


class Pool(Section):
    """A named set of backends."""

    command: Command = key(
        "",
        "a string (split as a shell would, no shell is run) or a list; "
        "{port}, {host}, {name}, {index} and {pool} are filled in; programs of the balancer's own virtual environment are found "
        "without activating it",
    )
    backends: BackendCount = key(1, 'a number, or "auto" (also "max", 0): one per usable CPU')
    weight: int = key(1, "0 to 1000; 0: gets nothing until changed", least=0, most=MAX_WEIGHT)
    backup: bool = key(False, "true: gets requests only when no other backend can")
    cwd: Folder = key(".", "relative to the file's folder")
    env: dict[str, str] = key({}, "added to the environment; {port}, {host}, {name}, {index} and {pool} are filled in")
    user: str = key("", "run as this user (needs root)")
    host: BackendHost = key("127.0.0.1", "where backends listen")
    ports: Ports = key("ephemeral", 'or "9000-9099": which ports are handed out; room for rollout.surge is needed')
    handover: Literal["port", "socket", "node-cluster"] = key(
        "port",
        '"port": the backend binds {port} itself; "socket": it inherits a listening socket (LISTEN_FDS=1, fd 3); '
        '"node-cluster": a Node.js program that calls listen() itself',
    )
    mode: Literal["proxy", "shared", "pass"] = key(
        "proxy",
        '"proxy": requests are balanced; "shared": backends inherit the listener\'s own socket and accept themselves; '
        '"pass": the balancer accepts and passes each connection over the channel, round robin; the last two take whole listeners: '
        "no [[route]] is tried there, nothing is known of requests, and a backend counts as ready once it has started, unless "
        'ready.when is "message"',
    )
    policy: Literal["weighted-round-robin", "least-connections", "random-two", "peak-ewma", "hash"] = key(
        "weighted-round-robin", "which backend gets the next request"
    )
    hash_on: HashKey = key("client-ip", 'for policy "hash": client-ip, uri, header:NAME or cookie:NAME')
    sticky_cookie: OptionalToken = key("", "a name: each client stays with its backend while that one takes requests")
    connect_timeout: PositiveDuration = key("3s", "for a TCP connection; local ones take less than 1ms")
    sticky_attributes: str = key(
        "Path=/; HttpOnly; SameSite=Lax", "of that cookie; Secure, Max-Age=… and Domain=… go here too"
    )
    sticky_key_file: LocalPath = key(
        "", "a file with the secret that signs the cookie; left out: a new secret at each start of the balancer"
    )
    response_timeout: PositiveDuration = key("60s", "until the response head; then 504, not retried")
    retries: int = key(2, "further attempts on other backends", least=0, most=100)
    retry_budget: Share = key("20%", "retries may be this share of the requests, and always 10 a second")
    concurrency: int = key(
        0, "requests in flight per backend over all proxy processes; 0: no limit", least=0, most=100_000
    )
    queue: int = key(
        100,
        "requests that wait in one line per pool while no backend can take them but one is expected to; "
        "when none is, 503 at once",
        least=0,
        most=1_000_000,
    )
    queue_timeout: PositiveDuration = key("10s", "then 503 with an honest Retry-After")
    keep_alive: int = key(64, "idle connections kept per backend and proxy process; 0: none", least=0, most=100_000)
    keep_alive_timeout: PositiveDuration = key(
        "4s",
        "an idle upstream connection is closed after this: before Node's and uvicorn's 5 s, so that no request "
        "meets a closing one",
    )
    slow_start: Duration = key("0s", "weight rises from 0 to full over this time after a backend becomes healthy")
    pass_host: bool = key(True, "true: backends see the client's Host; false: their own address")
    backend_header: OptionalToken = key(
        "",
        'a name, such as "X-Balancer-Backend": in it responses say which backend gave them, and its generation: '
        "web-3;generation=2; a backend's own field of that name is dropped",
    )
    group: Annotated[tuple[Group, ...], Field(strict=False)] = key(
        (), "instead of command, backends, weight, backup, cwd and env: a pool of several groups"
    )
    ready: Ready = part(Ready, "when a new process may take requests")
    health: Health = part(Health, "active health")
    eject: Eject = part(Eject, "passive health: judged from real traffic")
    quarantine: Quarantine = part(Quarantine, "refusing requests that keep killing backends")
    limits: Limits = part(Limits, "what each backend process may use")
    restart: Restart = part(Restart, "when a process is started again or replaced")
    stop: Stop = part(Stop, "how a process is asked to leave")
    rollout: Rollout = part(Rollout, "rolling restart and reload")

    @property
    def groups(self) -> tuple[Group, ...]:
        """Its groups in the file's order; a pool without [[group]] has one, made of its own command and what belongs to it."""
        if not self.group:
            own = {key: getattr(self, key) for key in ("command", "backends", "weight", "backup", "cwd", "env", "user")}
            defaults = {name: field.get_default() for name, field in Group.model_fields.items()}
            return (Group.model_construct(**{**defaults, "address": None, "share": 0.0, **own}),)
        alone = len(self.group) == 1
        return tuple(
            group.model_copy(
                update={"user": group.user or self.user, "name": group.name or ("" if alone else str(number))}
            )
            for number, group in enumerate(self.group)
        )

    @property
    def backend_count(self) -> int:
        """How many backends in all groups; "auto" resolved for this machine, now."""
        return sum(group.backend_count for group in self.groups)
