"""`balancer init`: a file to start from."""

from pathlib import Path

import click

from balancer.cli.command import VERBS
from balancer.errors import BalancerError


@click.command("init", help=VERBS["init"])
@click.argument("file", default="cluster.toml", type=click.Path(path_type=Path))
def verb(file: Path) -> None:
    from balancer.settings.sample import SAMPLE

    try:
        # "x": never over a file, nor through a link, that somebody wrote in the meantime.
        with file.open("x", encoding="utf-8") as out:
            out.write(SAMPLE)
    except FileExistsError:
        raise BalancerError(f"{file} is already there; nothing was written") from None
    except OSError as error:
        raise BalancerError(f"{file}: {error.strerror or error}") from None
    click.echo(f"wrote {file}; now: balancer --config {file}")
