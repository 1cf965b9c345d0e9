"""The promise of the spool, against every order of events hypothesis can think of.

A model keeps what was made, receipted and reported as dropped. Loss, repetition and reordering of
receipts, lost connections and restarts with the same storage may come at any time. Throughout:
what is neither receipted nor dropped is kept, and what is receipted is never sent again.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from device_agent.records import Outgoing, Record
from device_agent.replay import WINDOW_LIMIT
from device_agent.spool import MemoryStorage, SpoolLimits
from fleet_core.contract.messages import Receipt
from tests.unit.device_agent.story import Story, events, heartbeats, names, statuses

Name = tuple[str, int]
ROWS_LIMIT = 25
INTERVAL_S = 30


class AgentLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.storage = MemoryStorage()
        self.limits = SpoolLimits(rows=ROWS_LIMIT)
        self.now_s = 0.0
        self.boots = 0
        self.sent: set[Name] = set()
        self.receipted: set[Name] = set()
        self.reported: dict[Name, int] = {}
        self.made_before = 0
        self.connected = False
        self.start()

    def start(self) -> None:
        self.boots += 1
        self.boot_id = f"{self.boots:032x}"
        self.connected = False
        self.story = Story(
            storage=self.storage,
            limits=self.limits,
            interval_s=INTERVAL_S,
            boot_id=self.boot_id,
            at_s=self.now_s,
        )

    @rule()
    def restart(self) -> None:
        self.made_before += self.story.machine.last_seq
        self.start()

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        messages = self.story.connect(self.now_s)
        assert [status.session for status in statuses(messages[:1])] == [self.story.machine.session]
        assert len(heartbeats(messages)) == 1
        self.connected = True
        self.note(messages)

    @precondition(lambda self: self.connected)
    @rule()
    def lose_the_connection(self) -> None:
        self.story.machine.on_disconnected()
        self.connected = False

    @rule(count=st.integers(1, 12))
    def happen(self, count: int) -> None:
        for _ in range(count):
            assert self.story.event(self.now_s)

    @rule(wait_s=st.sampled_from([0.0, 0.5, 7.0, 30.0, 61.0, 400.0]))
    def tick(self, wait_s: float) -> None:
        self.now_s += wait_s
        messages = self.story.tick(self.now_s)
        assert self.connected or not messages
        assert sum(len(message.seqs) for message in messages) <= WINDOW_LIMIT + 1
        self.note(messages)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def receipt(self, data: st.DataObject) -> None:
        """Some of what was ever sent, in any order, receipted before or not."""
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.sent)), min_size=1, max_size=20))
        for boot_id in sorted({boot_id for boot_id, _ in chosen}):
            ranges = [(seq, seq) for boot, seq in chosen if boot == boot_id]
            self.story.machine.on_receipt(Receipt(boot_id=boot_id, ranges=ranges))
        self.receipted.update(chosen)

    @precondition(lambda self: self.connected)
    @rule()
    def a_healthy_platform_empties_the_spool(self) -> None:
        for _ in range(20):
            self.now_s += 301
            self.note(self.story.tick(self.now_s))
            kept = {(e.record.boot_id, e.record.seq) for e in self.storage.read(0, ROWS_LIMIT)}
            for boot_id, seq in sorted(kept & self.sent):
                self.story.machine.on_receipt(Receipt(boot_id=boot_id, ranges=[(seq, seq)]))
                self.receipted.add((boot_id, seq))
            if self.story.spool.rows == 0:
                return
        raise AssertionError(f"{self.story.spool.rows} records are left")

    def note(self, messages: list[Outgoing]) -> None:
        carried = names(messages)
        assert not set(carried) & self.receipted, "a receipted record was sent again"
        assert len(set(carried)) == len(carried), "a record was sent twice in one go"
        self.sent.update(carried)
        batches = [m for m in messages if m.seqs]
        for event in events(batches):
            if event.kind == "spool.dropped":
                boot_id = next(boot for boot, seq in carried if seq == event.seq)
                self.reported[boot_id, event.seq] = event.data["count"]

    @invariant()
    def limits_hold(self) -> None:
        assert self.story.spool.rows <= ROWS_LIMIT
        totals = self.storage.totals()
        assert (totals.rows, totals.size_bytes) == (
            self.story.spool.rows,
            self.story.spool.size_bytes,
        )

    @invariant()
    def every_record_is_kept_receipted_or_counted(self) -> None:
        made = self.made_before + self.story.machine.last_seq
        kept = [entry.record for entry in self.storage.read(0, ROWS_LIMIT)]
        reported_in_spool = sum(
            int(count)
            for record in kept
            if b"spool.dropped" in record.payload
            and (record.boot_id, record.seq) not in self.reported
            for count in [record.payload.partition(b'"count":')[2].partition(b"}")[0]]
        )
        counted = self.story.spool.dropped + sum(self.reported.values()) + reported_in_spool
        gone = made - len(kept)
        # A record may be dropped after it was receipted by nobody, or receipted after it was
        # dropped (it had been sent): so the two may overlap, but never leave one unexplained.
        assert gone <= len(self.receipted) + counted
        lost_without_receipt = made - len(kept) - len(self.receipted - {_name(r) for r in kept})
        assert lost_without_receipt <= counted


def _name(record: Record) -> Name:
    return record.boot_id, record.seq


TestAgentLife = AgentLife.TestCase
TestAgentLife.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
