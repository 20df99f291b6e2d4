"""One door per library, and calls that need a reason."""

import ast

import pytest

from tests.architecture.source import Module, imports, modules, uses

# Library → the only packages that import it.
DOORS = {
    "h11": ("balancer.http1",),
    "prometheus_client": ("balancer.telemetry",),
    "tomli": ("balancer.settings",),
    "tomllib": ("balancer.settings",),
    "pydantic": ("balancer.settings",),
    "cryptography": ("balancer.settings",),
    "click": ("balancer.cli",),
    "rich": ("balancer.cli",),
    "dns": ("balancer.net.resolve",),
    "subprocess": ("balancer.supervisor",),
    "signal": ("balancer.supervisor",),
    "asyncio": (),
    "multiprocessing": (),
    "threading": (),
}

# Call or attribute → why it is not used.
BANNED = {
    "time.sleep": "it stops the whole loop; wait for an event, with a deadline",
    "time.time": "it jumps when the clock is set; time.monotonic, except where a date is meant",
    "print": "output goes through the log; only a command line prints",
    "os.environ": "the environment is read at the doors, so that what a module depends on shows in its arguments",
    "os.getenv": "as os.environ",
    "os.system": "no shell is ever run",
    "os.fork": "a loop that forks has two owners; supervisor/spawn starts processes",
    "trio.run_process": "Popen runs in a worker thread, and PR_SET_PDEATHSIG fires when that thread ends",
    "trio.lowlevel.open_process": "as trio.run_process",
    "trio.open_process": "as trio.run_process",
    "trio.to_thread.run_sync": "a thread cannot be cancelled; what can block needs a reason",
}

# (module or package, library or call) → why it may.
ALLOWED = {
    ("balancer.backend", "asyncio"): "it runs inside other people's programs, whatever loop they have",
    ("balancer.backend", "threading"): "it runs inside other people's programs, and they have threads",
    ("balancer.backend", "os.environ"): "a door: $NODE_CHANNEL_FD, as every backend gets it",
    ("balancer.demo", "signal"): "a program of its own: it stops on SIGTERM and can freeze itself",
    ("balancer.demo", "threading"): "a program of its own: threads start faster than asyncio can be imported",
    ("balancer.demo", "time.sleep"): "a program of its own: /slow is slow",
    ("balancer.demo", "os.environ"): "a program of its own: PORT, HOST and the BALANCER_ names come that way",
    ("balancer.supervisor.material", "time.time"): "a certificate runs out on a date",
    ("balancer.supervisor.notify", "os.environ"): "a door: $NOTIFY_SOCKET, as systemd sets it",
    ("balancer.supervisor.spawn", "os.environ"): "a door: a child's environment is ours with additions",
    ("balancer.supervisor.reload", "time.time"): "a metric: the date of the last reload",
    (
        "balancer.supervisor.reload",
        "trio.to_thread.run_sync",
    ): "reading the file may meet a slow disk; it has a deadline",
    (
        "balancer.supervisor.forensics",
        "trio.to_thread.run_sync",
    ): "a note on a slow disk must not hold up the end of a process; it has a deadline",
    (
        "balancer.supervisor.scrape",
        "trio.to_thread.run_sync",
    ): "the text of many backends is a long computation; it ends by itself, and whoever waits for it may leave",
    ("balancer.supervisor.resources", "time.time"): "the kernel counts a start from boot; the metric is a date",
    ("balancer.telemetry.access_log", "time.time"): "a line has a date",
    ("balancer.telemetry.console", "os.environ"): "a door: $NO_COLOR and $TERM",
    (
        "balancer.telemetry.backlog",
        "threading",
    ): "terminals and disks may block for ever, and only a thread may wait for them",
    ("balancer.telemetry.console", "threading"): "its thread waits for the end of the start",
    ("balancer.telemetry.events", "time.time"): "an event has a date, for people and for other machines",
    ("balancer.telemetry.log", "time.time"): "a line has a date",
    ("balancer.telemetry.logs", "time.time"): "a line has a date",
    ("balancer.settings.load", "os.environ"): "a door: $RUNTIME_DIRECTORY, and PATH for the check of commands",
    ("balancer.cli.check", "time.time"): "a certificate runs out on a date",
    ("balancer.cli.top", "time.sleep"): "no loop to stop: a line per interval is what it is for",
    ("balancer.cli.top", "time.time"): "a line has a date",
    ("balancer.cli", "print"): "it is the command line",
    ("balancer.cli", "os.environ"): "a door: $BALANCER_CONFIG",
}


def reason_to(module: Module, name: str) -> str | None:
    """Why the module may, or None."""
    return next((why for (place, what), why in ALLOWED.items() if what == name and module.is_in(place)), None)


@pytest.mark.parametrize("library", DOORS)
def test_one_door_per_library(library: str) -> None:
    wrong = [
        module.at(line)
        for module in modules()
        for name, line in imports(module)
        if name.partition(".")[0] == library
        and not any(module.is_in(door) for door in DOORS[library])
        and reason_to(module, library) is None
    ]
    assert not wrong, f"{library} is imported only in {DOORS[library]}"


@pytest.mark.parametrize("name", BANNED)
def test_banned(name: str) -> None:
    wrong = [
        module.at(line)
        for module in modules()
        for used, line in uses(module)
        if (used == name or used.startswith(name + ".")) and reason_to(module, name) is None
    ]
    assert not wrong, f"{name}: {BANNED[name]}"


@pytest.mark.parametrize(("place", "name"), ALLOWED)
def test_every_allowance_is_used(place: str, name: str) -> None:
    """What nobody needs any more goes."""
    found = (n for m in modules() if m.is_in(place) for n, _ in (*imports(m), *uses(m)))
    assert any(n == name or n.startswith(name + ".") for n in found)


def test_a_shield_has_a_deadline() -> None:
    """Clean-up that nothing can cancel must end by itself."""
    wrong = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                given = {keyword.arg for keyword in node.keywords}
                named = ast.unparse(node.func)
                if (
                    "shield" in given
                    and named.endswith("CancelScope")
                    and not given & {"deadline", "relative_deadline"}
                ):
                    wrong.append(module.at(node.lineno))
    assert not wrong


def test_no_state_in_modules() -> None:
    """A module holds tables (UPPER_CASE, never changed) and code; what changes belongs to an object that somebody owns."""
    wrong = []
    for module in modules():
        if module.is_in("balancer.demo"):
            continue
        for node in module.tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
                mutable = isinstance(node.value, ast.List | ast.Dict | ast.Set) or (
                    isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in {"list", "dict", "set"}
                )
                if mutable and any(not name.strip("_").isupper() and name != "__all__" for name in names):
                    wrong.append(f"{module.at(node.lineno)} {', '.join(names)}")
    assert not wrong
