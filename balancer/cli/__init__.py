"""The command line: one file per verb, imported when it is used, since `balancer --config F` shall serve within a second."""


def main() -> None:
    """The `balancer` command. Exit codes: 0 done, 1 failed, 2 the command line or the file is wrong."""
    from balancer.cli.command import entry

    entry()
