"""How the command ends when it is not by itself."""

from typing import Final

INTERRUPTED: Final = 130  # as shells count it: 128 + SIGINT
