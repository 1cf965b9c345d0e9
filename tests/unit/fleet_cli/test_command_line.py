"""Command lines without a broker: usage errors, help, formats, exit codes, other programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from fleet_cli import asking, device, programs
from fleet_cli.__main__ import chosen_format, explain, run
from fleet_cli.errors import EXIT_CODES, CommandFailed, ReaderGone, UsageFailed
from fleet_cli.formats import OutputFormat
from fleet_cli.options import read_tags
from fleet_cli.sim import simulator_flags
from fleet_cli.version import fleet_version
from fleet_core.contract.errors import ConfigError

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "words",
    [
        "nonsense",
        "device",
        "device lst",
        "device show",
        "device list --nonsense",
        "device list --limit x",
        "device list --limit 0",
        "device list --status sleeping",
        "device list --sort weight",
        "device list --tag env",
        "device list --tag a=1 --tag a=2",
        "device list --all --limit 5",
        "device list --offset 5 --page 2",
        "device list -o xml",
        "device list --url http://127.0.0.1",
        "device list --url mqtt://192.0.2.1",
        "device list --url mqtt://0.0.0.0",
        "device list --operator Mallory/#",
        "device register Gateway",
        "device register 東京 --site s",
        "device register Gateway --site s --id Not.Valid",
        "device watch Not.Valid",
        "dead-letters list --device Not.Valid",
        "dead-letters list --device gw-1 --topic x",
        "dead-letters show x",
        "sim run --devices 0",
        "handlers run",
        "broker render",
    ],
)
def test_usage_errors_are_one_envelope_and_exit_2(words: str, capsys: Captured) -> None:
    assert run(words.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["code"] == "usage"


def test_usage_errors_for_people_have_a_hint(capsys: Captured) -> None:
    assert run(["device", "lst", "-o", "table"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: No such command 'lst'")
    assert (
        "hint: one of register, install, list, show, events, watch; fleet device --help"
        in captured.err
    )


def test_no_words_mean_help(capsys: Captured) -> None:
    assert run([]) == 0
    assert "device" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["--help", "device list -h", "device --help", "sim run --help"])
def test_help_is_data(words: str, capsys: Captured) -> None:
    assert run(words.split()) == 0
    captured = capsys.readouterr()
    assert "Usage: fleet" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("output", list(OutputFormat))
def test_version_in_every_format(output: OutputFormat, capsys: Captured) -> None:
    assert run(["version", "-o", output.value]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ("device list", None),
        ("device list -o csv", OutputFormat.CSV),
        ("device list --output=csv", OutputFormat.CSV),
        ("device list -ocsv -o yaml", OutputFormat.YAML),
        ("device list -o", None),
        ("device list -o xml", None),
        ("handlers run -- -o csv", None),
    ],
)
def test_the_format_of_an_error(words: str, output: OutputFormat | None) -> None:
    assert chosen_format(words.split()) is output


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes `fleet device show` end with an exception."""

    def end_with(error: BaseException) -> None:
        def ask(*_: Any) -> Any:
            raise error

        monkeypatch.setattr(device, "ask", ask)

    return end_with


@pytest.mark.parametrize(("code", "exit_code"), list(EXIT_CODES.items()))
def test_exit_codes(
    code: str, exit_code: int, replaced: Callable[[BaseException], None], capsys: Captured
) -> None:
    replaced(CommandFailed(code, "because", details={"id": "gw-1"}))
    assert run(["device", "show", "gw-1"]) == exit_code
    assert json.loads(capsys.readouterr().err) == {
        "code": code,
        "message": "because",
        "hint": "",
        "details": {"id": "gw-1"},
    }


def test_an_interrupt_is_quiet(replaced: Callable[[BaseException], None], capsys: Captured) -> None:
    replaced(KeyboardInterrupt())
    assert run(["device", "show", "gw-1"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_left_is_quiet(
    replaced: Callable[[BaseException], None], capsys: Captured
) -> None:
    replaced(ReaderGone())
    assert run(["device", "show", "gw-1"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_bug_is_told_with_its_traceback(
    replaced: Callable[[BaseException], None], capsys: Captured
) -> None:
    replaced(ZeroDivisionError("oops"))
    assert run(["device", "show", "gw-1"]) == 1
    envelope = json.loads(capsys.readouterr().err)
    assert envelope["code"] == "internal"
    assert "ZeroDivisionError" in envelope["details"]["traceback"]


def test_a_bad_configuration_is_a_usage_error() -> None:
    assert explain(ConfigError("no")).code == "usage"


def test_windows() -> None:
    window = asking.read_window
    assert window(None, None, None, everything=False) == asking.Window(100, 0, False)
    assert window(10, 5, None, everything=False) == asking.Window(10, 5, True)
    assert window(None, None, 2, everything=False) == asking.Window(100, 100, True, page=2)
    assert window(None, None, None, everything=True) == asking.Window(None, 0, True)


def test_tags() -> None:
    assert read_tags(["a=1", "b="]) == {"a": "1", "b": ""}
    assert read_tags(None) == {}
    with pytest.raises(UsageFailed):
        read_tags(["=1"])


def test_a_tag_given_twice_is_refused_and_help_says_so(capsys: Captured) -> None:
    with pytest.raises(UsageFailed, match="the tag 'a' is given twice"):
        read_tags(["a=1", "a=2"])
    assert run(["device", "list", "--help"]) == 0
    help_text = " ".join(capsys.readouterr().out.split())
    assert "may be repeated with another key: all of them" in help_text
    assert "a repeated --status or --site by or" in help_text


def test_fleet_has_a_version_option(capsys: Captured) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"fleet {fleet_version()}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--interval 301", "--interval"),
        ("--interval 0", "--interval"),
        ("--silent 101", "--silent"),
        ("--hot -1", "--hot"),
        ("--churn 101", "--churn"),
        ("--ramp 0", "--ramp"),
        ("--ramp nan", "--ramp"),
        ("--for 0", "--for"),
        ("--devices 100000", "--devices"),
        ("--prefix Sim", "1 to 41 of a-z, 0-9 and -"),
        ("--prefix " + "x" * 42, "1 to 41 of a-z, 0-9 and -"),
    ],
)
def test_the_simulators_bounds_are_ours(words: str, says: str, capsys: Captured) -> None:
    assert run(["sim", "run", *words.split()]) == 2
    captured = capsys.readouterr()
    assert says in json.loads(captured.err)["message"]
    assert "simulator" not in captured.err


def test_the_simulators_help_has_bounds_and_defaults(capsys: Captured) -> None:
    assert run(["sim", "run", "--help"]) == 0
    help_text = " ".join(capsys.readouterr().out.split())
    for words in ("30 if not given. [1<=x<=300]", "100 if not given. [0.1<=x", "sim if not given"):
        assert words in help_text


def test_simulator_flags_keep_their_precision() -> None:
    assert simulator_flags({"--for": 1234567.5, "--hot": 0.1}) == ["--for=1234567.5", "--hot=0.1"]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What this process would have become."""
    calls: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda _path, command, _environment: calls.append(command))
    return calls


def test_handlers_become_the_handlers(executed: list[list[str]]) -> None:
    run(["handlers", "run", "ingest", "requests", "--instance", "b"])
    options = ["run", "--instance=b", "ingest", "requests"]
    assert executed == [[sys.executable, "-P", "-m", "handlers", *options]]


def test_broker_render_becomes_the_renderer(executed: list[list[str]]) -> None:
    run(["broker", "render", "mosquitto", "--port", "1884", "--directory", "/data"])
    options = ["--port=1884", "--directory=/data"]
    assert executed == [[sys.executable, "-P", "-m", "broker.mosquitto", *options]]


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(CommandFailed) as failure:
        programs.command_line("nowhere", [])
    assert failure.value.code == "not_found"


def test_programs_find_this_installation_first() -> None:
    path = programs.program_environment({"PYTHONPATH": "other", "A": "b"})["PYTHONPATH"]
    assert path.split(os.pathsep) == [str(programs.ROOT), "other"]
