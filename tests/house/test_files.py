"""What no file of the repository may hold: this machine, a package registry, a private key."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

import pytest

from tests.house.source import files, text

SELF = "tests/house/test_files.py"
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:root|work|mnt|Users|home/(?!somebody\b|fleet\b))/?\w+")
INDEX = re.compile(
    r"--(?:extra-)?index-url|--find-links|\bindex-url\s*=|\bregistry\s*=\s*http"
    r'|"resolved":\s*"http|https?://[^\s/"\'@]+:[^\s/"\'@]+@'
)
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
INDEX_VARIABLES = (
    "PIP_INDEX_URL",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "npm_config_registry",
    "GOPROXY",
)


def matches(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}: {found.group()[:80]}"
        for path in files()
        if path != SELF
        for found in pattern.finditer(text(path))
    ]


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    assert matches(MACHINE_PATH) == []


def test_no_file_names_a_package_index() -> None:
    assert matches(INDEX) == []


def test_no_file_names_the_package_index_of_this_machine() -> None:
    hosts = {urlsplit(os.environ.get(name, "")).hostname for name in INDEX_VARIABLES}
    for host in hosts - {None}:
        assert matches(re.compile(re.escape(str(host)))) == []


def test_no_file_holds_a_private_key() -> None:
    assert matches(PRIVATE_KEY) == []
    assert [path for path in files() if path.endswith((".key", ".p12", ".pfx"))] == []


@pytest.mark.parametrize(
    ("pattern", "offending"),
    [
        (MACHINE_PATH, "cd /" + "root/project"),
        (MACHINE_PATH, '"/' + 'home/alice/x"'),
        (MACHINE_PATH, "see /" + "work/main"),
        (MACHINE_PATH, "/" + "Users/alice"),
        (INDEX, "pip install --index-url x"),
        (INDEX, "--extra-index-url=x"),
        (INDEX, '"resolved": "https://example.org/a.tgz"'),
        (INDEX, "registry=https://example.org"),
        (INDEX, "https://user:secret@example.org"),
        (PRIVATE_KEY, "-----BEGIN PRIVATE" + " KEY-----"),
        (PRIVATE_KEY, "-----BEGIN RSA PRIVATE" + " KEY-----"),
    ],
)
def test_an_offence_is_found(pattern: re.Pattern[str], offending: str) -> None:
    assert pattern.search(offending)


@pytest.mark.parametrize(
    "fine", ["/var/lib/mqtt-fleet", "https://example.org/x", "a/" + "root/b", "~/work"]
)
def test_what_is_allowed_is_not(fine: str) -> None:
    assert not MACHINE_PATH.search(fine)
    assert not INDEX.search(fine)
