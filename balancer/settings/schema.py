"""JSON Schema of cluster.toml, for editors: completion, the description of each key, and red lines while typing."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from balancer.settings.model import Settings

# The draft that TOML editors know. There, what stands beside a $ref is ignored, so nothing is referred to.
_DRAFT = "http://json-schema.org/draft-07/schema#"
_ANNOTATIONS = ("title", "$defs")


def schema() -> dict[str, Any]:
    """The whole schema, every table written out where it belongs."""
    made = Settings.model_json_schema(schema_generator=GenerateJsonSchema)
    root = _inlined(made, made["$defs"])
    root["properties"]["route"]["items"]["required"] = ["pool"]
    return {"$schema": _DRAFT, "title": "cluster.toml", **root}


def _inlined(node: Any, definitions: dict[str, Any], *, names: bool = False) -> Any:
    """The node without references and generated titles. names: its keys are keys of the file, not words of JSON Schema."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if names:
        return {key: _inlined(value, definitions) for key, value in node.items()}
    node = {key: value for key, value in node.items() if key not in _ANNOTATIONS}
    reference = node.pop("$ref", "")
    if reference:
        node = {**definitions[reference.rpartition("/")[2]], **node}
        return _inlined(node, definitions)
    # A table that may be left out: TOML has no null, so only the table is left of the two.
    choices = node.get("anyOf", [])
    if {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        others = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return _inlined({**rest[0], **others} if len(rest) == 1 else {**others, "anyOf": rest}, definitions)
    return {key: _inlined(value, definitions, names=key == "properties") for key, value in node.items()}
