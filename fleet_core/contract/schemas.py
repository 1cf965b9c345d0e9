"""The JSON Schemas of the messages, in the dialect every tool reads (draft 7).

msgspec writes draft 2020-12 from the message types; three things are put differently here:

- a tuple is `items` with `additionalItems`, not `prefixItems`;
- a reference with a default beside it is wrapped, because draft 7 ignores what stands beside one;
- Python's end-of-text `\\Z` in a pattern is `$`, which means the same in ECMA 262.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fleet_core.contract.topics import TEMPLATES, Template

Schema = dict[str, Any]


def components(ref_prefix: str) -> dict[str, Schema]:
    """The schema of each message and of each type inside one, by name, sorted by name.

    References are `ref_prefix` and the name.
    """
    _, found = msgspec.json.schema_components(
        [template.payload_type for template in TEMPLATES], ref_template=ref_prefix + "{name}"
    )
    return {name: _to_draft_7(found[name]) for name in sorted(found)}


def name_of(template: Template) -> str:
    """The name of the schema that a payload of `template` follows."""
    return template.payload_type.__name__


def _to_draft_7(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_draft_7(item) for item in value]
    if not isinstance(value, dict):
        return value
    schema = {key: _to_draft_7(item) for key, item in value.items()}
    if isinstance(schema.get("pattern"), str):
        schema["pattern"] = schema["pattern"].replace(r"\Z", "$")
    if isinstance(schema.get("description"), str):
        schema["description"] = " ".join(schema["description"].split())
    if "prefixItems" in schema:
        schema["items"], schema["additionalItems"] = schema.pop("prefixItems"), False
    if "$ref" in schema and len(schema) > 1:
        schema["allOf"] = [{"$ref": schema.pop("$ref")}]
    return schema
