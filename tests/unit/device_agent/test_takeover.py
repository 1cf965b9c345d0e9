from __future__ import annotations

from device_agent.takeover import (
    REPORT_INTERVAL_S,
    SHORT_SESSION_S,
    SHORT_SESSIONS_LIMIT,
    WITHIN_S,
    ShortSessions,
)


def lost_every(step_s: float, count: int, lasted_s: float = 1.0) -> list[bool]:
    sessions = ShortSessions()
    return [sessions.lost(lasted_s, number * step_s) for number in range(count)]


def test_the_fifth_short_session_is_reported_and_the_sixth_is_not_again() -> None:
    assert lost_every(20, 7) == [False] * (SHORT_SESSIONS_LIMIT - 1) + [True, False, False]


def test_it_is_reported_again_after_an_hour_at_the_earliest() -> None:
    said_at = [number * 20 for number, said in enumerate(lost_every(20, 400)) if said]
    assert said_at == [80, 80 + REPORT_INTERVAL_S, 80 + 2 * REPORT_INTERVAL_S]


def test_sessions_that_lasted_do_not_count_and_do_not_clear() -> None:
    assert not any(lost_every(20, 20, lasted_s=SHORT_SESSION_S))
    sessions = ShortSessions()
    said = [sessions.lost(lasted_s, lasted_s) for lasted_s in (1, 2, 30, 3, 4, 40, 5)]
    assert said == [False] * 6 + [True]


def test_short_sessions_far_apart_are_accidents() -> None:
    assert not any(lost_every(WITHIN_S / 4 + 1, 50))
    assert any(lost_every(WITHIN_S / 4, 5))
