"""The command line: one file per verb, imported when it is used, since `balancer --config F` shall serve within a second."""

INTERRUPTED = 130  # as shells count it: 128 + SIGINT


def main() -> None:
    """The `balancer` command. Exit codes: 0 done, 1 failed, 2 the command line or the file is wrong."""
    try:
        from balancer.cli.command import entry

        entry()
    except KeyboardInterrupt:
        # While the modules were still being read: as afterwards, without a word.
        raise SystemExit(INTERRUPTED) from None
