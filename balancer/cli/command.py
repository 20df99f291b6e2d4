"""The command as a whole: verbs found by name, `--config` before or after them, and every error one line on stderr."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from balancer import __version__
from balancer.cli.exits import INTERRUPTED
from balancer.errors import BalancerError

# Verb → what it does, for the help: reading it must not import the verb's module.
VERBS = {
    "run": "Run in the foreground until stopped; the same without any verb.",
    "check": "Validate the file; print ok, or every problem at once; say on stderr how much memory its backends will take.",
    "init": "Write a commented starting file.",
    "schema": "Print the JSON Schema of the file, for editors.",
    "status": "Show pools and backends.",
    "top": "Show pools and backends live in the terminal, until q; with --json a line per look.",
    "reload": "Read the file again and replace every backend; wait until done; exit 1 with the reason if rolled back.",
    "plan": "Show what a reload of the file would do; exit 0: nothing, 2: changes, 1: the file is wrong.",
    "restart": "Replace the processes of a pool or a backend without a lost request; wait until done.",
    "scale": "Change the number of backends until the next reload; wait until done.",
    "drain": "Take a backend out of rotation and wait until it is idle; its process keeps running.",
    "undrain": "Put a backend back into rotation and wait until it takes requests.",
    "weight": "Change the weight of a backend (0 to 1000) until the next reload.",
    "send": "Send a JSON message to one backend or to all of a pool; with --wait, print their replies.",
    "logs": "Show what backends wrote to stdout and stderr.",
    "events": "Show what happened to processes and traffic.",
    "stop": "Stop the balancer gracefully; wait until it has stopped.",
}
DEFAULT = "run"
EPILOG = "A backend is named by its pool and number, such as web/3. Exit codes: 0 done, 1 failed, 2 the command line or the file is wrong."
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Verbs(click.Group):
    """Finds `balancer.cli.<verb>.verb` when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"balancer.cli.{cmd_name}")
        command: click.Command = module.verb
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS:
            raise click.UsageError(f"there is no verb {args[0]!r}{_meant(args[0], VERBS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def config_option(function: Any) -> Any:
    """The `--config F` that every verb takes; given before the verb it counts too. The function gets a Path `config`."""

    def take(ctx: click.Context, _: click.Parameter, value: str | None) -> Path:
        chosen = value or ctx.find_root().params.get("config") or os.environ.get("BALANCER_CONFIG") or "cluster.toml"
        return Path(chosen)

    return click.option(
        "-c", "--config", metavar="FILE", callback=take, help="The file [default: $BALANCER_CONFIG, then cluster.toml]."
    )(function)


def json_option(what: str) -> Callable[[Any], Any]:
    """The `--json` of a verb; `what` is printed then. The function gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=what)


@click.group(cls=Verbs, invoke_without_command=True, context_settings=CONTEXT, epilog=EPILOG)
@click.option("-c", "--config", metavar="FILE", help="The file [default: $BALANCER_CONFIG, then cluster.toml].")
@click.version_option(__version__, prog_name="balancer", message="%(prog)s %(version)s")
@click.pass_context
def balancer(ctx: click.Context, config: str | None) -> None:
    """Start any HTTP app N times and be the front door to it: process manager and load balancer in one."""
    if ctx.invoked_subcommand is None:
        command = balancer.get_command(ctx, DEFAULT)
        assert command is not None
        ctx.exit(command.main([], parent=ctx, standalone_mode=False) or 0)


def entry(args: list[str] | None = None) -> NoReturn:
    """Run the command line and exit. No traceback for anything that a user can cause."""
    try:
        code = balancer.main(args, prog_name="balancer", standalone_mode=False)
        _finish(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as leave:
        _finish(leave.exit_code)
    except click.ClickException as wrong:
        _finish(2, _usage(wrong))
    except (KeyboardInterrupt, click.Abort):
        _finish(INTERRUPTED)
    except BalancerError as failed:
        _finish(2 if _is_wrong_file(failed) else 1, str(failed))


def _finish(code: int, message: str = "") -> NoReturn:
    if message:
        print(message, file=sys.stderr)
    sys.exit(code)


def _usage(wrong: click.ClickException) -> str:
    """Click's complaint on one line, with a suggestion and where to read on."""
    message = wrong.format_message().strip().rstrip(".")
    if isinstance(wrong, click.NoSuchOption):
        message = f"there is no option {wrong.option_name}{_meant(wrong.option_name, wrong.possibilities or ())}"
    context = getattr(wrong, "ctx", None)
    where = context.command_path if context else "balancer"
    return f"{where}: {message} (see {where} --help)"


def _meant(given: str, known: Any) -> str:
    close = difflib.get_close_matches(given, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _is_wrong_file(failed: BalancerError) -> bool:
    """Exit code 2 is for the command line and the file; without importing the settings when they were not in use."""
    loaded = sys.modules.get("balancer.settings.problems")
    if loaded is not None and isinstance(failed, getattr(loaded, "SettingsError", ())):
        return True
    # The balancer's own word that what was asked for makes no sense.
    return getattr(failed, "status", 0) == 400
