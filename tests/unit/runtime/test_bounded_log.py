from __future__ import annotations

from pathlib import Path

from fleet_core.runtime.bounded_log import LAST_WORDS, BoundedLog


def test_a_full_log_becomes_the_older_of_two(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path, "a", limit_bytes=100)
    for number in range(30):
        log.write(b"line %04d\n" % number)
    log.close()
    newer, older = tmp_path / "a.log", tmp_path / "a.log.1"
    assert newer.read_text().endswith("line 0029\n")
    assert older.read_text().endswith("line 0019\n")
    assert max(newer.stat().st_size, older.stat().st_size) <= 100


def test_a_log_is_continued_by_the_next_run(tmp_path: Path) -> None:
    for words in (b"first\n", b"second\n"):
        log = BoundedLog(tmp_path, "a")
        log.write(words)
        log.close()
    assert (tmp_path / "a.log").read_text() == "first\nsecond\n"


def test_the_last_words_are_the_last_lines(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path, "a")
    log.write(b"".join(b"%d\n" % number for number in range(100)))
    log.write(b"\xff\n")
    log.close()
    words = log.last_words().splitlines()
    assert len(words) == LAST_WORDS
    assert words[-2:] == ["99", "\ufffd"]
