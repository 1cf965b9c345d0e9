from __future__ import annotations

from device_agent.replay import RECEIPT_TIMEOUTS_S, WINDOW_LIMIT, Replay


def test_the_window_is_full_at_its_limit_and_frees_after_thirty_seconds() -> None:
    replay = Replay()
    for position in range(1, WINDOW_LIMIT):
        replay.sent(position, 0)
    assert replay.room(0) == 1
    replay.sent(WINDOW_LIMIT, 1)
    assert replay.room(29.9) == 0
    assert replay.room(30) == WINDOW_LIMIT - 1
    assert replay.room(31) == WINDOW_LIMIT


def test_a_receipt_frees_its_place_at_once() -> None:
    replay = Replay()
    for position in range(1, WINDOW_LIMIT + 1):
        replay.sent(position, 0)
    replay.forget(50)
    assert replay.room(0) == 1
    assert not replay.is_sent(50)


def test_waiting_doubles_from_thirty_seconds_to_five_minutes() -> None:
    replay, now_s, waits = Replay(), 0.0, []
    for _ in range(len(RECEIPT_TIMEOUTS_S) + 1):
        replay.sent(7, now_s)
        due_s = replay.next_due_s(now_s, unsent=False)
        assert due_s is not None
        assert replay.overdue(due_s - 0.1, 10) == []
        assert replay.overdue(due_s, 10) == [7]
        waits.append(due_s - now_s)
        now_s = due_s
    assert waits == [30, 60, 120, 240, 300, 300]


def test_the_oldest_overdue_records_come_first() -> None:
    replay = Replay()
    for position in (9, 3, 5):
        replay.sent(position, 0)
    assert replay.overdue(30, 2) == [3, 9] or replay.overdue(30, 2) == [3, 5]
    assert replay.overdue(30, 10) == [3, 5, 9]


def test_a_restart_forgets_everything() -> None:
    replay = Replay()
    replay.sent(1, 0)
    replay.cursor = 1
    replay.restart()
    assert (replay.cursor, replay.room(0), replay.is_sent(1)) == (0, WINDOW_LIMIT, False)
    assert replay.next_due_s(0, unsent=False) is None


def test_a_full_window_is_due_when_its_first_place_frees() -> None:
    replay = Replay()
    for position in range(WINDOW_LIMIT):
        replay.sent(position, 2)
    assert replay.next_due_s(3, unsent=True) == 32
