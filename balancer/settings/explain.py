"""A person's words for what pydantic found: what stands there, what was expected, and what was probably meant."""

import difflib
import json
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from balancer.settings.model import Settings
from balancer.settings.problems import Key
from balancer.settings.units import shown

# What a choice is called in "'wrr' is not …"; a key that is not here is called by its own name.
_CHOICES = {
    "policy": "a policy",
    "mode": "a mode",
    "handover": "a handover",
    "level": "a log level",
    "format": "a log format",
    "access_format": "an access log format",
    "signal": "a signal",
    "min_version": "a TLS version",
    "when": "a sign of readiness",
    "redirect": "a scheme to redirect to",
}
_KINDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "string_type": ("a string", lambda value: f'; write "{value}"' if _is_number(value) else ""),
    "int_type": ("a whole number", lambda value: f"; write {value}" if _is_digits(value) else ""),
    "int_from_float": ("a whole number", lambda _: ""),
    "bool_type": ("true or false", lambda value: f"; write {value.lower()}" if _is_bool_text(value) else ""),
    "model_type": ("a table", lambda _: ""),
    "dict_type": ("a table", lambda _: ""),
    "tuple_type": ("a list", lambda value: f"; write [{json.dumps(value)}]" if isinstance(value, str) else ""),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_digits(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit()


def _is_bool_text(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in ("true", "false")


def nearest(word: str, choices: Iterable[str]) -> str:
    """The one that was probably meant, or ""."""
    by_lower = {choice.lower(): choice for choice in choices}
    # In a short word one exchanged pair of letters is already a third of it.
    cutoff = 0.6 if len(word) <= 4 else 0.7
    matches = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else ""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """'; did you mean 'weight'?', or "" when nothing is near."""
    choice = nearest(word, choices)
    return f"; did you mean '{choice}'?" if choice else ""


def message(error: ErrorDetails) -> str:
    """One error of pydantic's, said again; never in its own words."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        return _unknown_key(tuple(error["loc"]))
    if kind == "literal_error":
        return _not_a_choice(tuple(error["loc"]), value)
    if kind in ("greater_than_equal", "less_than_equal"):
        limit = f"at least {context['ge']}" if kind == "greater_than_equal" else f"at most {context['le']}"
        return f"{shown(value)} is out of range; expected {limit}"
    if kind == "int_parsing_size":
        return f"{shown(value)} is out of range"
    if kind in ("model_type", "dict_type") and isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "a list of tables is not a table; expected single brackets, as in [name]"
    if kind == "tuple_type" and _section((*error["loc"], 0)):
        return f"{shown(value)} is not a list of tables; expected double brackets, as in [[name]]"
    expected, hint = _KINDS.get(kind, ("something else", lambda _: ""))
    return f"{shown(value)} is not {expected}{hint(value)}"


def keys_beside(key: Key) -> Sequence[str]:
    """The keys that the model knows in the table of this one; empty where any name goes."""
    section = _section(key[:-1])
    return tuple(section.model_fields) if section else ()


def _unknown_key(key: Key) -> str:
    name = str(key[-1]).replace("-", "_").lower()
    known = keys_beside(key)
    if suggestion := did_you_mean(name, known):
        return f"unknown key{suggestion}"
    if elsewhere := _tables_with(name):
        return f"unknown key; '{name}' belongs in {elsewhere[0]}"
    return f"unknown key; expected one of {', '.join(known)}"


def _not_a_choice(key: Key, value: Any) -> str:
    name = str(key[-1])
    section = _section(key[:-1])
    choices = [c for c in get_args(section.model_fields[name].annotation) if c] if section else []
    what = _CHOICES.get(name, f"a value for {name}")
    suggestion = did_you_mean(value, choices) if isinstance(value, str) else ""
    return f"{shown(value)} is not {what}; expected one of {', '.join(choices)}{suggestion}"


def _section(key: Key) -> type[BaseModel] | None:
    """The part of the model that a table belongs to."""
    found: Any = Settings
    for part in key:
        if isinstance(found, type) and issubclass(found, BaseModel):
            field = found.model_fields.get(str(part))
            found = _without_none(field.annotation) if field else None
        elif get_origin(found) is dict:
            found = get_args(found)[1]
        elif get_origin(found) is tuple:
            found = get_args(found)[0]
        else:
            return None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        return next(choice for choice in get_args(annotation) if choice is not type(None))
    return annotation


def _tables_with(name: str) -> list[str]:
    """The tables that know this key, as the file writes their headers."""
    return [header for header, section in tables() if name in section.model_fields]


def tables() -> list[tuple[str, type[BaseModel]]]:
    """Every table of the file with its header, in the order of the model: ("[pool.NAME.ready]", Ready) …"""
    found: list[tuple[str, type[BaseModel]]] = []

    def walk(section: type[BaseModel], path: str) -> None:
        for name, field in section.model_fields.items():
            kind = _without_none(field.annotation)
            below, opening, closing = f"{path}.{name}" if path else name, "[", "]"
            if get_origin(kind) is dict:
                kind, below = get_args(kind)[1], below + ".NAME"
            elif get_origin(kind) is tuple:
                kind, opening, closing = get_args(kind)[0], "[[", "]]"
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found.append((f"{opening}{below}{closing}", kind))
                walk(kind, below)

    walk(Settings, "")
    return found
