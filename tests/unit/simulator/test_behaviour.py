from __future__ import annotations

import json
import random
from itertools import islice, takewhile
from pathlib import Path

from device_agent.machine import MachineSettings
from device_agent.moment import Moment
from device_agent.records import Outgoing
from device_agent.spool import MemoryStorage, Spool
from fleet_core.contract.codec import decode_as, encode
from fleet_core.contract.errors import Unavailable
from fleet_core.contract.messages import DeviceInfo, Metrics, Receipt
from fleet_core.contract.publication import Publication
from simulator.behaviour import AWAY_S, CuttableDelays, SilentMachine, cuts
from simulator.journal import DeviceObserver, Journal, Tally
from simulator.roster import SimulatedDevice, roster
from simulator.simulated_machine import SimulatedMachine
from tests.unit.device_agent.story import BOOT, live, moment


def device(*, hot: bool = False) -> SimulatedDevice:
    (calm,) = roster(1, 3)
    return SimulatedDevice(
        device_id=calm.device_id, name=calm.name, site=calm.site, tags=calm.tags, hot=hot
    )


def silent_machine() -> SilentMachine:
    host = SimulatedMachine(device(), 1, moment(0).elapsed_s)
    settings = MachineSettings(device_id="sim-00001", interval_s=1)
    return SilentMachine(settings, Spool(MemoryStorage()), host.sample, moment(0), BOOT)


def test_a_silent_device_sends_two_heartbeats_and_then_nothing() -> None:
    machine = silent_machine()
    machine.on_connecting(moment(0))
    birth, first = machine.on_connected(moment(0))
    assert birth.seqs == ()
    assert first.seqs == (1,)
    assert [message.seqs for message in live(machine.on_tick(moment(1)))] == [(2,)]
    assert [machine.on_tick(moment(second)) for second in (2, 31, 400)] == [[], [], []]
    assert machine.next_due_s(moment(400)) > 60


def test_a_silent_device_that_comes_back_only_says_that_it_is_there() -> None:
    machine = silent_machine()
    for second in (0, 1, 2):
        machine.on_connecting(moment(second))
        messages = machine.on_connected(moment(second))
        machine.on_disconnected()
    (birth,) = messages
    assert birth.seqs == ()


def test_metrics_walk_within_their_bounds_and_repeat_by_seed() -> None:
    def samples(seed: int, *, hot: bool) -> list[Metrics]:
        host = SimulatedMachine(device(hot=hot), seed, moment(0).elapsed_s)
        return [host.sample(moment(second)).metrics for second in range(200)]

    calm, hot = samples(1, hot=False), samples(1, hot=True)
    assert all(m.cpu_percent < 70 and m.ram_percent < 75 and m.disk_percent < 80 for m in calm)
    assert all(m.cpu_percent > 90 for m in hot)
    assert samples(1, hot=False) == calm
    assert samples(2, hot=False) != calm
    assert len({m.cpu_percent for m in calm}) > 50


def test_what_a_simulated_machine_says_fits_the_contract() -> None:
    sample = SimulatedMachine(device(), 1, moment(0).elapsed_s).sample(moment(5))
    assert decode_as(Metrics, encode(sample.metrics)) == sample.metrics
    assert decode_as(DeviceInfo, encode(sample.info)) == sample.info


def test_cuts_are_in_order_repeatable_and_as_many_as_asked_for() -> None:
    names = [f"sim-{n:05}" for n in range(100)]
    first = list(islice(cuts(names, 10, 1), 500))
    assert first == list(islice(cuts(names, 10, 1), 500))
    assert first != list(islice(cuts(names, 10, 2), 500))
    assert [at_s for at_s, _ in first] == sorted(at_s for at_s, _ in first)
    in_ten_minutes = len(list(takewhile(lambda cut: cut[0] < 600, cuts(names, 10, 1))))
    assert 60 < in_ten_minutes < 140
    assert list(cuts(names, 0, 1)) == []
    assert list(cuts([], 10, 1)) == []


def test_after_a_cut_the_device_stays_away_and_then_backs_off_as_ever() -> None:
    delays = CuttableDelays(random.Random(1))
    delays.cut()
    assert AWAY_S[0] <= delays.next_s() <= AWAY_S[1]
    assert delays.next_s() <= 1


def clock() -> Moment:
    return moment(1.5)


def test_the_journal_says_what_happened_to_each_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal, tally, machine = Journal(path), Tally(), silent_machine()
    observer = DeviceObserver("sim-00001", machine, clock, tally, journal)
    machine.on_connecting(moment(0))
    birth, first = machine.on_connected(moment(0))
    batch = Outgoing(Publication("t", b""), BOOT, (1,), live=False)
    observer.sending(birth)
    observer.sending(first)
    assert json.loads(path.read_text())["what"] == "sent", "written before the packet goes out"
    observer.acknowledged(batch)
    observer.connected()
    observer.receipted(Receipt(boot_id=BOOT, ranges=[(1, 2**62)]))
    observer.receipted(Receipt(boot_id="b" * 32, ranges=[(5, 2**62)]))
    observer.disconnected(Unavailable())
    journal.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    own = [(line["what"], line["seq"]) for line in lines if line["boot"] == BOOT]
    assert own == [("sent", 1), ("acked", 1), ("receipted", 1)]
    assert len(lines) == 3 + 1000
    assert set(lines[0]) == {"device", "boot", "seq", "what", "t"}
    assert lines[0]["t"] == moment(1.5).at.timestamp()
    assert (tally["connected"], tally["lost"]) == (0, 1)
