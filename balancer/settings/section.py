"""What every part of the model has in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Frozen, strict (a number is not a string), and no key is accepted that it does not know.

    Defaults are read like the file's own values, so they stand in the model as the file would write them.
    """

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        validate_default=True,
        hide_input_in_errors=True,
    )


def key(default: Any, reason: str, *, least: int | None = None, most: int | None = None) -> Any:
    """A key of the file: its default as the file would write it, and what it means or why it is that; numbers have limits.

    Typed as Any because the default is read like a value of the file, so "5s" may stand for a float.
    """
    return Field(default=default, description=reason, ge=least, le=most)


def part(section: type[Section], reason: str) -> Any:
    """A table of the file that is there with its defaults when the file leaves it out."""
    return Field(default_factory=section, description=reason)
