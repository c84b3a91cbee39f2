"""Leases as their users have them: held while a block runs, campaigned for, lost, given back."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from loomproxy.cluster.leases import LeaseBusyError, LeaseLostError, Leases
from loomproxy.cluster.store import FencedError, Held, Store, StoreAwayError
from tests.cluster.house import Where, eventually, opened, taken


def leases(store: Store, owner: str = "a", ttl_s: float = 30.0, retry_s: float = 0.05) -> Leases:
    return Leases(store, owner, ttl_s=ttl_s, retry_s=retry_s, dice=random.Random(1).random)


def test_a_block_holds_its_lease_and_gives_it_back(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            ours = leases(store)
            async with ours.hold("job") as held:
                assert ours.holding() == (held,)
                await store.write(held, "k", "v")
            assert ours.holding() == ()
            assert (await taken(store, "job", "b")).token == held.token + 1

    asyncio.run(play())


def test_who_only_tries_once_is_told_who_has_it(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            await taken(store, "job", "b")
            with pytest.raises(LeaseBusyError, match="b holds it"):
                async with leases(store).hold("job"):
                    raise AssertionError("it is not ours")

    asyncio.run(play())


def test_who_waits_gets_it_when_it_is_let_go(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            theirs = await taken(store, "job", "b")

            async def let_go() -> None:
                await store.release(theirs)

            async with asyncio.TaskGroup() as group:
                asyncio.get_running_loop().call_later(0.1, lambda: group.create_task(let_go()))
                async with leases(store).hold("job", wait_s=20.0) as held:
                    assert held.token == theirs.token + 1

    asyncio.run(play())


def test_who_waits_does_so_no_longer_than_it_said(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            await taken(store, "job", "b")
            before = asyncio.get_running_loop().time()
            with pytest.raises(LeaseBusyError):
                async with leases(store).hold("job", wait_s=0.3):
                    pass
            assert 0.29 < asyncio.get_running_loop().time() - before < 5.0

    asyncio.run(play())


def test_a_lease_is_renewed_for_as_long_as_the_block_runs(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store, leases(store, ttl_s=1.0).hold("job") as held:
            (first,) = await store.leases()

            async def renewed() -> bool:
                (now,) = await store.leases()
                return now.expires_at > first.expires_at + 1.0

            await eventually(renewed)
            await store.write(held, "k", "v")

    asyncio.run(play())


def test_a_lease_that_is_taken_away_cancels_the_block_and_says_so(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            cancelled = asyncio.Event()

            async def lose() -> None:
                async with leases(store, ttl_s=0.6).hold("job"):
                    await store.unregister("a")
                    try:
                        await asyncio.get_running_loop().create_future()
                    except asyncio.CancelledError:
                        cancelled.set()
                        raise

            with pytest.raises(LeaseLostError, match="job"):
                await lose()
            assert cancelled.is_set()
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0, "only the block was cancelled"

    asyncio.run(play())


def test_it_is_no_reentrant_lock(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            ours = leases(store)
            async with ours.hold("job"):
                with pytest.raises(RuntimeError, match="already"):
                    async with ours.hold("job"):
                        pass
                assert len(ours.holding()) == 1, "and the first one is not harmed"

    asyncio.run(play())


@pytest.mark.parametrize("ttl_s", [0, -1.0])
def test_a_lease_that_does_not_last_is_refused(where: Where, ttl_s: float) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            with pytest.raises(ValueError, match="cannot last"):
                async with leases(store).hold("job", ttl_s=ttl_s):
                    pass

    asyncio.run(play())


def test_what_the_block_raises_comes_out_as_it_is(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            with pytest.raises(ZeroDivisionError):
                async with leases(store).hold("job"):
                    _ = 1 / 0
            await taken(store, "job", "b")

    asyncio.run(play())


def test_cancelling_a_block_gives_the_lease_back(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            inside = asyncio.Event()

            async def hold() -> None:
                async with leases(store).hold("job"):
                    inside.set()
                    await asyncio.get_running_loop().create_future()

            task = asyncio.get_running_loop().create_task(hold())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await taken(store, "job", "b")

    asyncio.run(play())


def test_a_store_that_is_away_is_said_to_be(where: Where) -> None:
    async def play() -> None:
        class Away:
            async def acquire(self, *_what: object) -> Held:
                raise StoreAwayError("nobody answers")

        with pytest.raises(StoreAwayError, match="nobody"):
            async with leases(Away()).hold("job"):  # type: ignore[arg-type] # as much of a store as is asked
                pass

    asyncio.run(play())


class Work:
    """Guarded work that notes its beginnings and ends."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[Held] = asyncio.Queue()
        self.ended: asyncio.Queue[Held] = asyncio.Queue()
        self.then: Callable[[Held], Any] | None = None

    async def __call__(self, held: Held) -> None:
        self.begun.put_nowait(held)
        try:
            if self.then is not None:
                await self.then(held)
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended.put_nowait(held)


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_of_two_that_campaign_one_works_and_the_other_takes_over(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            one, other = leases(store, "a", ttl_s=1.0), leases(store, "b", ttl_s=1.0)
            first, second = Work(), Work()
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(one.keep("leader", first))]
            held = await first.begun.get()
            tasks.append(loop.create_task(other.keep("leader", second)))
            await one.release_all()
            assert await first.ended.get() == held
            later = await second.begun.get()
            assert later.token > held.token
            assert one.holding() == ()
            assert other.holding() == (later,)
            await tasks[0]
            await other.release_all()
            await tasks[1]
            assert (await taken(store, "leader", "c")).token > later.token

    asyncio.run(play())


def test_who_is_asked_to_step_down_does_and_another_takes_over(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            one, other = leases(store, "a"), leases(store, "b")
            first, second = Work(), Work()
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(one.keep("leader", first))]
            await first.begun.get()
            tasks.append(loop.create_task(other.keep("leader", second)))
            assert await store.step_down("leader") == "a"
            one.hint()
            await first.ended.get()
            await second.begun.get()
            assert one.holding() == ()
            for task in tasks:
                await ended(task)

    asyncio.run(play())


def test_work_that_is_fenced_has_lost_its_lease_and_campaigns_again(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            ours, work = leases(store), Work()

            async def writes(held: Held) -> None:
                await store.write(held, "k", "v")
                if held.token == 1:
                    await store.unregister("a")
                    await store.write(held, "k", "never")

            work.then = writes
            task = asyncio.get_running_loop().create_task(ours.keep("leader", work))
            assert (await work.begun.get()).token == 1
            await work.ended.get()
            assert (await work.begun.get()).token == 2
            assert await store.read("k") == "v"
            await ended(task)

    asyncio.run(play())


def test_work_that_fails_lets_others_go_first(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            ours, work = leases(store), Work()

            async def fails(_held: Held) -> None:
                raise ValueError("broken")

            work.then = fails
            task = asyncio.get_running_loop().create_task(ours.keep("leader", work))
            await work.ended.get()

            async def free() -> bool:
                (lease,) = await store.leases()
                return lease.owner == ""

            await eventually(free)
            ours.hint()
            assert work.begun.qsize() == 1, "it stands back"
            await ended(task)

    asyncio.run(play())


def test_a_holder_whose_store_is_away_stops_before_its_lease_runs_out(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            away = False

            class Fickle:
                def __getattr__(self, name: str) -> Any:
                    if away and name in ("renew", "acquire"):
                        return self._nobody
                    return getattr(store, name)

                async def _nobody(self, *_what: object) -> None:
                    raise StoreAwayError("nobody answers")

            ours, work = leases(Fickle(), ttl_s=1.5), Work()  # type: ignore[arg-type] # as much of a store as is asked
            task = asyncio.get_running_loop().create_task(ours.keep("leader", work))
            held = await work.begun.get()
            away = True
            await work.ended.get()
            (lease,) = await store.leases()
            assert lease.remaining_s > 0 or lease.owner == "", "it stopped early"
            away = False
            again = await work.begun.get()
            assert again.token == held.token + 1
            with pytest.raises(FencedError):
                await store.write(held, "k", "late")
            await ended(task)

    asyncio.run(play())
