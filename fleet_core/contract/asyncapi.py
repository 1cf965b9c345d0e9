"""The contract as an AsyncAPI 3.0 document, for tools (`docs/asyncapi.json`).

The application it describes is the platform: it *receives* what devices and operators say, and
*sends* what is said to them and what its own services say of themselves.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fleet_core.contract.codec import encode
from fleet_core.contract.examples import MESSAGES
from fleet_core.contract.schemas import components, name_of
from fleet_core.contract.topics import ROOT, TEMPLATES, Direction, Kind, Template

MQTT_BINDING_VERSION = "0.2.0"


def render_asyncapi() -> str:
    """The document as JSON text, the same for the same contract."""
    return msgspec.json.format(encode(asyncapi()), indent=2).decode() + "\n"


def asyncapi() -> dict[str, Any]:
    """The document as plain values."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mqtt-fleet",
            "version": f"{ROOT.rpartition('/v')[2]}.0.0",
            "description": "What devices, operators and the platform of mqtt-fleet say over MQTT.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:1883", "protocol": "mqtt"}},
        "channels": {template.name: _channel(template) for template in TEMPLATES},
        "operations": {_operation_name(template): _operation(template) for template in TEMPLATES},
        "components": {
            "messages": {template.name: _message(template) for template in TEMPLATES},
            "schemas": components("#/components/schemas/"),
        },
    }


def _channel(template: Template) -> dict[str, Any]:
    parameters = {f"{template.kind.value[:-1]}_id": {"description": f"id of {template.kind.value}"}}
    if template.key_name:
        parameters[template.key_name] = {"description": "the last level of the topic"}
    return {
        "address": template.address(),
        "summary": template.summary,
        "parameters": parameters,
        "messages": {template.name: {"$ref": f"#/components/messages/{template.name}"}},
        "x-payload-limit-bytes": template.payload_limit_bytes,
    }


def _operation_name(template: Template) -> str:
    return f"{_action(template)}_{template.name}"


def _action(template: Template) -> str:
    received = template.direction is Direction.UP and template.kind is not Kind.SERVICES
    return "receive" if received else "send"


def _operation(template: Template) -> dict[str, Any]:
    channel = f"#/channels/{template.name}"
    return {
        "action": _action(template),
        "channel": {"$ref": channel},
        "summary": template.summary,
        "messages": [{"$ref": f"{channel}/messages/{template.name}"}],
        "bindings": {
            "mqtt": {
                "qos": template.qos,
                "retain": template.retain,
                "bindingVersion": MQTT_BINDING_VERSION,
            }
        },
    }


def _message(template: Template) -> dict[str, Any]:
    return {
        "name": template.name,
        "title": name_of(template),
        "summary": template.summary,
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{name_of(template)}"},
        "examples": [
            {"name": template.name, "payload": msgspec.json.decode(encode(MESSAGES[template.name]))}
        ],
    }
