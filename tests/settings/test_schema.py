import json
import re
from pathlib import Path
from typing import Any

import pytest
import tomli

from balancer.settings.schema import schema

_CONFIG = Path(__file__).parents[2] / "config"


def _faults(value: Any, rule: dict[str, Any], place: str = "") -> list[str]:
    """A validator for the few words of JSON Schema that ours has; an unknown word fails the test."""
    known = {"type", "properties", "additionalProperties", "items", "anyOf", "enum", "const", "pattern", "required"}
    known |= {"minimum", "maximum", "minLength", "minItems", "format", "default", "description", "title", "$schema"}
    assert rule.keys() <= known, rule.keys() - known
    if "anyOf" in rule:
        return [] if any(not _faults(value, option) for option in rule["anyOf"]) else [f"{place}: none of anyOf"]
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    found = []
    if "type" in rule and (not isinstance(value, kinds[rule["type"]]) or (value is True and rule["type"] == "integer")):
        return [f"{place}: not {rule['type']}"]
    if "enum" in rule and value not in rule["enum"]:
        found.append(f"{place}: not in enum")
    if "const" in rule and value != rule["const"]:
        found.append(f"{place}: not const")
    if isinstance(value, str | list) and len(value) < max(rule.get("minLength", 0), rule.get("minItems", 0)):
        found.append(f"{place}: too short")
    if isinstance(value, str) and not re.search(rule.get("pattern", ""), value):
        found.append(f"{place}: not {rule['pattern']}")
    if isinstance(value, int) and not rule.get("minimum", value) <= value <= rule.get("maximum", value):
        found.append(f"{place}: range")
    for index, item in enumerate(value if isinstance(value, list) else []):
        found += _faults(item, rule["items"], f"{place}[{index}]")
    if isinstance(value, dict):
        found += [f"{place}: no {name}" for name in rule.get("required", []) if name not in value]
        for name, item in value.items():
            below = rule.get("properties", {}).get(name, rule.get("additionalProperties", False))
            found += _faults(item, below, f"{place}.{name}") if below else [f"{place}.{name}: unknown"]
    return found


@pytest.mark.parametrize("file", sorted(_CONFIG.glob("*.toml")), ids=lambda file: file.stem)
def test_the_sample_files_are_valid_by_the_schema(file: Path) -> None:
    assert not _faults(tomli.loads(file.read_text()), schema())


@pytest.mark.parametrize(
    "text",
    [
        "[pool.w]\nweigth = 1",
        '[pool.w]\npolicy = "wrr"',
        "[proxy]\nidle_timeout = 5",
        '[proxy]\nidle_timeout = "5"',
        '[proxy]\nidle_timeout = ""',
        "[pool.w]\ncommand = []",
        "[[route]]\npath = '/x'",
        "[pool.w]\nretries = -1",
        "[pool.w]\nenv = {A = 1}",
    ],
)
def test_the_schema_refuses_what_loading_refuses(text: str) -> None:
    assert _faults(tomli.loads(text), schema())


def test_every_key_is_described_and_every_default_fits() -> None:
    def walk(node: dict[str, Any], place: str) -> None:
        for name, rule in node.get("properties", {}).items():
            assert rule.get("description"), f"{place}.{name}"
            if "default" in rule and rule["default"] != "":  # "" is "none" where an address or a command may stand
                assert not _faults(rule["default"], rule), f"{place}.{name}"
            for below in (rule, rule.get("items"), rule.get("additionalProperties")):
                if isinstance(below, dict):
                    walk(below, f"{place}.{name}")

    walk(schema(), "")
    assert "$ref" not in json.dumps(schema())
