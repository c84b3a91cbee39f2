"""Startup gates and shutdown steps, as an operator meets them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from loomproxy.node import lifecycle
from loomproxy.node.lifecycle import GateError, Gates, NotYetError, Shutdown


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "GATE_RETRY_S", 0.001)
    monkeypatch.setattr(lifecycle, "STEP_TIMEOUT_MIN_S", 0.05)
    monkeypatch.setattr(lifecycle, "_CANCEL_TIMEOUT_S", 0.01)


def test_gates_are_passed_in_order_and_asked_again() -> None:
    asked: list[str] = []

    async def first() -> None:
        asked.append("first")
        if len(asked) < 3:
            raise NotYetError("not so fast")

    async def second() -> None:
        asked.append("second")

    async def play() -> None:
        gates = Gates()
        gates.add("first", first, timeout_s=5)
        gates.add("second", second, timeout_s=5)
        assert not gates.passed
        await gates.run(5)
        assert gates.passed
        assert gates.waiting_for == ""

    asyncio.run(play())
    assert asked == ["first", "first", "first", "second"]


@pytest.mark.parametrize(("own_s", "all_s"), [(0.05, 10), (10, 0.05)])
def test_gate_that_stays_closed_is_named_with_its_reason(own_s: float, all_s: float) -> None:
    async def closed() -> None:
        raise NotYetError("the database does not answer")

    async def play() -> None:
        gates = Gates()
        gates.add("database", closed, timeout_s=own_s)
        with pytest.raises(GateError, match=r"'database' stayed closed.*does not answer"):
            await gates.run(all_s)
        assert not gates.passed
        assert gates.waiting_for == "database"

    asyncio.run(play())


def test_gate_that_hangs_is_given_up() -> None:
    async def play() -> None:
        gates = Gates()
        gates.add("slow", asyncio.Event().wait, timeout_s=0.02)
        with pytest.raises(GateError, match="it did not answer"):
            await gates.run(5)

    asyncio.run(play())


def test_gate_that_cannot_open_ends_the_start_at_once() -> None:
    async def hopeless() -> None:
        raise GateError("it left")

    async def play() -> None:
        gates = Gates()
        gates.add("hopeless", hopeless, timeout_s=600)
        with pytest.raises(GateError, match="it left"):
            await gates.run(600)

    asyncio.run(play())


def test_steps_are_done_in_reverse_and_none_is_skipped() -> None:
    done: list[str] = []

    def step(name: str, error: Exception | None = None) -> Callable[[], Awaitable[None]]:
        async def leave() -> None:
            done.append(name)
            if error is not None:
                raise error

        return leave

    async def stuck() -> None:
        done.append("stuck")
        while len(done) < 4:  # not even its cancellation ends it
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def play() -> None:
        shutdown = Shutdown()
        shutdown.add("first started", step("first started"), timeout_s=5)
        shutdown.add("broken", step("broken", RuntimeError("no")), timeout_s=5)
        shutdown.add("stuck", stuck, timeout_s=0.02)
        shutdown.add("last started", step("last started"), timeout_s=5)
        troubles = await shutdown.run(5)
        assert [trouble.step for trouble in troubles] == ["stuck", "broken"]
        assert troubles[1].reason == "RuntimeError: no"

    asyncio.run(play())
    assert done == ["last started", "stuck", "broken", "first started"]


def test_deadline_of_all_leaves_a_little_for_each() -> None:
    done: list[str] = []

    async def slow() -> None:
        await asyncio.Event().wait()

    async def quick() -> None:
        done.append("quick")

    async def play() -> None:
        shutdown = Shutdown()
        shutdown.add("quick", quick, timeout_s=600)
        shutdown.add("slow", slow, timeout_s=600)
        troubles = await shutdown.run(0.0)
        assert [trouble.step for trouble in troubles] == ["slow"]

    asyncio.run(play())
    assert done == ["quick"]


def test_force_ends_the_waiting() -> None:
    async def play() -> None:
        shutdown = Shutdown()
        shutdown.add("slower", asyncio.Event().wait, timeout_s=600)
        shutdown.add("slow", asyncio.Event().wait, timeout_s=600)
        running = asyncio.get_running_loop().create_task(shutdown.run(600))
        await asyncio.sleep(0)
        shutdown.force()
        async with asyncio.timeout(30):
            troubles = await running
        assert [(each.step, each.reason) for each in troubles] == [
            ("slow", "forced"),
            ("slower", "forced"),
        ]

    asyncio.run(play())


def test_shutdown_happens_once() -> None:
    async def play() -> None:
        shutdown = Shutdown()
        assert await shutdown.run(1) == []
        with pytest.raises(AssertionError):
            await shutdown.run(1)

    asyncio.run(play())
