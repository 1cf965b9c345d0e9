"""The generated documents are fresh, complete and true."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import msgspec
import pytest

from fleet_core.contract.asyncapi import asyncapi, render_asyncapi
from fleet_core.contract.codec import decode, encode
from fleet_core.contract.document import render_topics
from fleet_core.contract.examples import MESSAGES, example_topic
from fleet_core.contract.rights import Principal, publish_filters
from fleet_core.contract.topics import TEMPLATES, Kind, Template, parse

REPOSITORY = Path(__file__).resolve().parents[3]
each_template = pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)


def resolve(document: dict[str, Any], reference: str) -> Any:
    """What `#/a/b` points to."""
    value: Any = document
    for word in reference.removeprefix("#/").split("/"):
        value = value[word]
    return value


def payload_schema(template: Template) -> dict[str, Any]:
    """The schema of a template's payload, with what it refers to."""
    document = asyncapi()
    message = document["components"]["messages"][template.name]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **message["payload"],
        "components": document["components"],
    }


def load_tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location(
        "topics_tool", REPOSITORY / "tools" / "topics.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_documents_are_fresh() -> None:
    assert load_tool().stale() == [], "run `make topics`"


def test_a_stale_or_missing_document_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = load_tool()
    assert tool.stale(tmp_path) == ["topics.md", "docs/asyncapi.json"]
    tool.write(tmp_path)
    assert tool.stale(tmp_path) == []
    (tmp_path / "topics.md").write_text("old")
    assert tool.stale(tmp_path) == ["topics.md"]
    monkeypatch.setattr(tool, "stale", lambda: ["topics.md"])
    assert tool.main(["--check"]) == 1
    assert "topics.md" in capsys.readouterr().err
    assert tool.main(["--invented"]) == 2


def test_the_documents_are_the_same_every_time() -> None:
    assert (render_topics(), render_asyncapi()) == (render_topics(), render_asyncapi())


def test_every_template_has_one_example() -> None:
    assert sorted(MESSAGES) == sorted(t.name for t in TEMPLATES)


@each_template
def test_an_example_comes_back_from_its_json(template: Template) -> None:
    message = MESSAGES[template.name]
    assert type(message) is template.payload_type
    assert decode(template, encode(message)) == message


@each_template
def test_an_example_topic_is_one_of_its_template(template: Template) -> None:
    assert parse(example_topic(template)).template is template


@each_template
def test_an_example_follows_the_schema(template: Template) -> None:
    schema = payload_schema(template)
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(
        msgspec.json.decode(encode(MESSAGES[template.name]))
    )


@each_template
def test_the_schema_refuses_what_the_codec_refuses(template: Template) -> None:
    validator = jsonschema.Draft7Validator(payload_schema(template))
    assert not validator.is_valid({})
    assert not validator.is_valid([])
    for name in template.payload_type.__struct_fields__:
        values = msgspec.json.decode(encode(MESSAGES[template.name]))
        if name in values:
            assert not validator.is_valid({**values, name: [{"nonsense": True}, "\n"]}), name


@each_template
def test_the_page_tells_everything_of_a_template(template: Template) -> None:
    page = render_topics()
    section = page.split(f"### {template.name}\n")[1].split("\n### ")[0]
    assert template.address() in section
    assert template.summary in section
    assert example_topic(template) in section
    for name in template.payload_type.__struct_fields__:
        assert f"| `{name}` |" in section


def test_the_page_tells_the_rights() -> None:
    device = Principal(kind=Kind.DEVICES, identity="gw-0001")
    assert all(topic_filter in render_topics() for topic_filter in publish_filters(device))


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi()

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [r for item in value.values() for r in references(item)]
        return [r for item in value for r in references(item)] if isinstance(value, list) else []

    found = references(document)
    assert found
    for reference in found:
        assert resolve(document, reference)


@each_template
def test_the_document_has_a_channel_an_operation_and_a_message(template: Template) -> None:
    document = asyncapi()
    channel = document["channels"][template.name]
    assert channel["address"] == template.address()
    assert set(channel["parameters"]) == {
        word[1:-1] for word in template.address().split("/") if word.startswith("{")
    }
    operations = [
        operation
        for operation in document["operations"].values()
        if operation["channel"]["$ref"].endswith(f"/{template.name}")
    ]
    assert len(operations) == 1
    assert operations[0]["bindings"]["mqtt"]["retain"] == template.retain
