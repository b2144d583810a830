"""Ray reports a host's death so late that the host's next process serves already."""

import asyncio
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorUnavailableError

from jobs.training.packing import HostProgress
from orchestrator.hosts.host_actor import Heartbeat
from orchestrator.hosts.pool import Pool
from orchestrator.hosts.served_leases import ClockReading


class FakeHost:
    """An actor's handle; each name in ``failing`` fails once, as of a death."""

    def __init__(self) -> None:
        self.process = "second"
        self.failing: set[str] = set()
        self.calls: list[str] = []
        self.ended = asyncio.Event()

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *arguments: self._call(name))

    async def _call(self, name: str) -> object:
        self.calls.append(name)
        if name in self.failing:
            self.failing.discard(name)
            raise ActorUnavailableError("the actor died before", None)
        if name == "wait_for_end":
            await self.ended.wait()
        if name == "ready":
            return SimpleNamespace(slots=2)
        return Heartbeat(HostProgress(0, "", 0.0), ClockReading(self.process, 0.0), "node")


@pytest.fixture
def host(monkeypatch) -> FakeHost:
    monkeypatch.setattr("orchestrator.hosts.pool._RETRY", 0.0)
    made = FakeHost()
    monkeypatch.setattr("ray.get_actor", lambda name: made)
    return made


async def opened(host: FakeHost) -> Pool:
    host.failing.add("served")  # it comes back empty
    pool = Pool(["host"], 600.0, 30.0)
    await pool.acquire("t", "holder", False)
    return pool


async def settled(host: FakeHost, call: str, times: int) -> None:
    while host.calls.count(call) < times:
        await asyncio.sleep(0)


@pytest.mark.parametrize("call", ["grant", "detach", "wait_for_end"])
def test_a_late_report_of_a_death_costs_the_new_process_nothing(host, call):
    async def story() -> dict:
        if call == "wait_for_end":
            host.failing.add(call)
        pool = await opened(host)
        host.failing.add(call)
        lease = (await pool.acquire("u", "other", False)).lease
        await pool.release(lease, False)
        await settled(host, "detach", 1)
        await settled(host, call, 2)
        return await pool.state()

    state = asyncio.run(story())
    assert state["deaths"] == 0
    assert list(state["leases"].values()) == ["t"]


def test_a_process_that_is_another_one_has_lost_its_leases(host):
    async def story() -> dict:
        pool = await opened(host)
        host.failing.add("grant")
        host.process = "third"
        await pool.acquire("u", "other", False)
        return await pool.state()

    state = asyncio.run(story())
    assert state["deaths"] == 1
    assert list(state["leases"].values()) == ["u"]
