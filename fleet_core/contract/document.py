"""The contract as a page for people (`topics.md`).

Everything on it is derived from `topics.py`, `messages.py`, `rights.py` and `examples.py`; there is
no sentence here that a change of those could make untrue. The same contract gives the same text.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fleet_core.contract.codec import encode
from fleet_core.contract.examples import IDENTITIES, MESSAGES, example_topic
from fleet_core.contract.messages import MAX_BIGINT
from fleet_core.contract.rights import Principal, publish_filters, subscribe_filters
from fleet_core.contract.schemas import Schema, components, name_of
from fleet_core.contract.topics import (
    KEY_PATTERN,
    PAYLOAD_LIMIT_BYTES,
    ROOT,
    TEMPLATES,
    TOPIC_LIMIT_BYTES,
    Kind,
    Template,
    id_pattern,
)

NOTICE = "<!-- Generated from fleet_core/contract by `make topics`. Don't edit. -->"


def render_topics() -> str:
    """The text of `topics.md`."""
    shapes = components("")
    of_messages = {name_of(template) for template in TEMPLATES}
    lines = [
        NOTICE,
        "# Topics",
        "",
        *_grammar(),
        *_overview(),
        *_rights(),
        "## Messages",
        "",
        *(line for template in TEMPLATES for line in _section(template, shapes)),
        "## Shapes inside messages",
        "",
        *(
            line
            for name, schema in shapes.items()
            if name not in of_messages
            for line in (f"### {name}", "", *_shape(schema))
        ),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _grammar() -> list[str]:
    return [
        "```",
        f"{ROOT}/<kind>/<id>/<up|down>/<channel>[/<key>]",
        "```",
        "",
        "- `up` is what a principal says, `down` is what is said to it.",
        "- MQTT 3.1.1, UTF-8 JSON. Ids, expiry and sequence numbers are in the payload.",
        f"- A payload has at most {_size(PAYLOAD_LIMIT_BYTES)} unless its topic says less.",
        f"- A topic has at most {TOPIC_LIMIT_BYTES} bytes.",
        f"- A `<key>` matches `{KEY_PATTERN.pattern}`.",
        "- Unknown fields are ignored.",
        "",
        *_table(
            ("kind", "`<id>` matches", "for example"),
            [(kind.value, f"`{id_pattern(kind)}`", f"`{IDENTITIES[kind]}`") for kind in Kind],
        ),
    ]


def _overview() -> list[str]:
    rows = [
        (
            f"{t.kind.value} {t.direction.value}",
            f"[`{t.channel}{f'/<{t.key_name}>' if t.key_name else ''}`](#{t.name})",
            "yes" if t.retain else "no",
            str(t.qos),
            _size(t.payload_limit_bytes),
            t.summary,
        )
        for t in TEMPLATES
    ]
    return [
        "## Channels",
        "",
        *_table(("who", "channel", "retained", "QoS", "limit", "what"), rows),
    ]


def _rights() -> list[str]:
    tenant = IDENTITIES[Kind.TENANTS]
    principals = [
        Principal(kind=kind, identity=IDENTITIES[kind], tenants=frozenset({tenant}))
        for kind in (Kind.DEVICES, Kind.OPERATORS, Kind.SERVICES, Kind.ENROLMENTS)
    ]
    return [
        "## Rights",
        "",
        "- A principal publishes to its own `up/#` and subscribes to its own `down/#`.",
        "- What is beyond that is in this table; nothing else is allowed to anyone.",
        "- A will and a retained message count as published.",
        "- If a filter is allowed, every topic it matches is allowed.",
        "",
        *_table(
            ("principal", "may publish to", "may subscribe to"),
            [
                (
                    f"{p.kind.value}, `{p.identity}`"
                    + (f" of `{tenant}`" if p.kind is Kind.OPERATORS else ""),
                    _listed(publish_filters(p)),
                    _listed(subscribe_filters(p)),
                )
                for p in principals
            ],
        ),
    ]


def _section(template: Template, shapes: dict[str, Schema]) -> list[str]:
    example = msgspec.json.format(encode(MESSAGES[template.name]), indent=2).decode()
    receipted = ["Answered with a receipt once it is stored.", ""] if template.receipted else []
    return [
        f"### {template.name}",
        "",
        f"`{template.address()}`",
        "",
        template.summary,
        "",
        *receipted,
        *_shape(shapes[name_of(template)]),
        f"On `{example_topic(template)}`:",
        "",
        "```json",
        example,
        "```",
        "",
    ]


def _shape(schema: Schema) -> list[str]:
    """A description and, for an object, its fields."""
    described = [schema["description"], ""] if "description" in schema else []
    if "properties" not in schema:
        return [*described, _type(schema), ""]
    required = set(schema.get("required", ()))
    rows = [
        (f"`{name}`", _type(field), "required" if name in required else _default(field))
        for name, field in schema["properties"].items()
    ]
    return [*described, *_table(("field", "type", "default"), rows)]


def _default(field: Schema) -> str:
    return f"`{encode(field['default']).decode()}`" if "default" in field else ""


def _type(schema: Schema) -> str:
    """A type in words, with its bounds."""
    for key in ("anyOf", "allOf"):
        if key in schema:
            return " or ".join(_type(item) for item in schema[key])
    if "$ref" in schema:
        return f"[{schema['$ref']}](#{schema['$ref'].lower()})"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    match schema.get("type"):
        case "array":
            return _array(schema)
        case "object":
            return _map(schema)
        case "string":
            return _string(schema)
        case "integer" | "number":
            return f"{schema['type']}{_bounds(schema, 'minimum', 'maximum')}"
        case None:
            return "anything"
        case word:
            return str(word)


def _array(schema: Schema) -> str:
    items = schema.get("items", {})
    if isinstance(items, list):
        return f"[{', '.join(_type(item) for item in items)}]"
    return f"list{_bounds(schema, 'minItems', 'maxItems')} of {_type(items)}"


def _map(schema: Schema) -> str:
    values = schema.get("additionalProperties")
    if not isinstance(values, dict) or not values:
        return "object"
    return f"object{_bounds(schema, 'minProperties', 'maxProperties')} of {_type(values)}"


def _string(schema: Schema) -> str:
    if "pattern" in schema:
        return f"string `{schema['pattern']}`".replace("|", "\\|")
    return schema.get("format") or f"string{_bounds(schema, 'minLength', 'maxLength')}"


def _bounds(schema: Schema, low_key: str, high_key: str) -> str:
    """In parentheses, or nothing. The largest number there is counts as no bound."""
    low, high = schema.get(low_key), schema.get(high_key)
    if high is None or high == MAX_BIGINT:
        return "" if low is None else f" (at least {_number(low)})"
    if low is None:
        return f" (at most {_number(high)})"
    return f" ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _size(size_bytes: int) -> str:
    return f"{size_bytes // 1024} KiB"


def _listed(filters: tuple[str, ...]) -> str:
    return "<br>".join(f"`{topic_filter}`" for topic_filter in filters)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A Markdown table and an empty line."""
    lines = [head, ("---",) * len(head), *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]
