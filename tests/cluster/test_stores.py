"""What every store promises: a file, PostgreSQL, and PostgreSQL behind PgBouncer, all the same."""

import asyncio

import pytest

from loomproxy.cluster.store import (
    Busy,
    ConflictError,
    FencedError,
    Held,
    Lease,
    Report,
    SchemaError,
)
from tests.cluster.house import ACTIVE, Where, eventually, member, opened, taken


def test_migrations_are_listed_then_run_then_done(where: Where) -> None:
    async def play() -> None:
        async with opened(where(), migrated=False) as store:
            waiting = await store.pending()
            assert [step.version for step in waiting] == list(range(1, len(waiting) + 1))
            assert waiting
            assert await store.pending() == waiting, "looking changes nothing"
            assert await store.migrate() == waiting
            assert await store.migrate() == ()
            assert await store.pending() == ()

    asyncio.run(play())


def test_many_may_migrate_at_once_and_each_step_runs_once(where: Where) -> None:
    async def one() -> int:
        async with opened(where(lock_timeout_s=5.0), migrated=False) as store:
            return len(await store.migrate())

    async def play() -> None:
        async with opened(where(), migrated=False) as store:
            there = len(await store.pending())
        assert sorted(await asyncio.gather(*(one() for _ in range(6)))) == [0] * 5 + [there]

    asyncio.run(play())


def test_a_store_that_was_not_migrated_says_so(where: Where) -> None:
    async def play() -> None:
        async with opened(where(), migrated=False) as store:
            with pytest.raises(SchemaError):
                await store.acquire("leader", "a", 5.0)
            with pytest.raises(SchemaError):
                await store.register(member(), ACTIVE)

    asyncio.run(play())


def test_one_holds_a_lease_and_the_others_learn_for_how_long(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            held = await taken(store, "leader", "a")
            assert held == Held("leader", "a", 1)
            for owner in ("b", "a"):  # a lease is no reentrant lock
                busy = await store.acquire("leader", owner, 60.0)
                assert isinstance(busy, Busy)
                assert busy.owner == "a"
                assert 50.0 < busy.remaining_s <= 60.0
            assert (await taken(store, "other", "b")).token == 1, "names are apart"

    asyncio.run(play())


def test_of_many_who_ask_at_once_one_gets_it(where: Where) -> None:
    async def play() -> None:
        async with opened(where(lock_timeout_s=5.0, pool_max=8)) as store:
            asks = (store.acquire("leader", f"o{number}", 60.0) for number in range(12))
            got = await asyncio.gather(*asks)
            assert sum(isinstance(answer, Held) for answer in got) == 1

    asyncio.run(play())


def test_a_token_grows_with_every_change_of_hands(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            for number in range(1, 5):
                held = await taken(store, "leader", f"o{number}")
                assert held.token == number
                assert await store.release(held)
                assert not await store.release(held), "a second release changes nothing"

    asyncio.run(play())


def test_a_lease_runs_out_and_is_not_revived(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            old = await taken(store, "leader", "a", ttl_s=0.05)

            async def again() -> Held | None:
                got = await store.acquire("leader", "b", 60.0)
                return got if isinstance(got, Held) else None

            new: Held = await eventually(again)
            assert new.token == old.token + 1
            assert await store.renew(old, 60.0) is None
            assert not await store.release(old)
            assert await store.renew(new, 60.0)

    asyncio.run(play())


def test_what_ran_out_is_not_renewed_although_nobody_took_it(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            held = await taken(store, "leader", "a", ttl_s=0.05)

            async def over() -> bool:
                (lease,) = await store.leases()
                return lease.remaining_s == 0

            await eventually(over)
            assert await store.renew(held, 60.0) is None
            with pytest.raises(FencedError):
                await store.write(held, "k", "v")

    asyncio.run(play())


def test_a_guarded_write_of_an_old_holder_is_refused(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            old = await taken(store, "leader", "a")
            await store.write(old, "k", "first")
            assert await store.release(old)
            new = await taken(store, "leader", "b")
            with pytest.raises(FencedError):
                await store.write(old, "k", "late")
            with pytest.raises(FencedError):
                await store.forget(old, 0.0)
            with pytest.raises(FencedError):
                await store.prune(old, revisions_max=0, events_max=0)
            assert await store.read("k") == "first"
            await store.write(new, "k", "second")
            assert await store.read("k") == "second"
            assert await store.read("unknown") is None

    asyncio.run(play())


def test_a_forged_token_or_owner_writes_nothing(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            held = await taken(store, "leader", "a")
            for forged in (
                Held("leader", "a", held.token + 1),
                Held("leader", "b", held.token),
                Held("other", "a", held.token),
            ):
                with pytest.raises(FencedError):
                    await store.write(forged, "k", "v")
                assert await store.renew(forged, 5.0) is None
                assert not await store.release(forged)
            assert await store.read("k") is None

    asyncio.run(play())


def test_who_is_asked_to_step_down_learns_of_it_with_its_renewal(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            assert await store.step_down("leader") is None, "nobody holds it"
            held = await taken(store, "leader", "a")
            assert (await store.renew(held, 60.0)).leaving is False  # type: ignore[union-attr] # None fails the test as well
            assert await store.step_down("leader") == "a"
            assert (await store.renew(held, 60.0)).leaving is True  # type: ignore[union-attr] # None fails the test as well
            (lease,) = await store.leases()
            assert lease.leaving
            assert await store.release(held)
            again = await taken(store, "leader", "a")
            assert (await store.renew(again, 60.0)).leaving is False  # type: ignore[union-attr] # None fails the test as well

    asyncio.run(play())


def test_leases_are_listed_with_whose_they_are(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            await store.register(member("one", "a"), ACTIVE)
            held = await taken(store, "leader", "a", ttl_s=30.0)
            await store.release(await taken(store, "earlier", "b"))
            earlier, leader = await store.leases()
            assert (earlier.name, earlier.owner, earlier.remaining_s) == ("earlier", "", 0.0)
            assert isinstance(leader, Lease)
            assert (leader.owner, leader.instance_id, leader.token) == ("a", "one", held.token)
            assert 20 < leader.remaining_s <= 30
            assert leader.acquired_at <= leader.renewed_at < leader.expires_at

    asyncio.run(play())


def test_who_registers_is_listed_with_all_it_said(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            told = member("two", "b" * 32, metadata={"ü": "✓"}, addresses=())
            report = Report("draining", 7, ("routes[0]: no pool",), 8)
            beat = await store.register(told, report)
            assert (beat.known, beat.replaced, beat.evicted, beat.newest) == (True, False, False, 0)
            (view,) = await store.members(60.0)
            assert view.member == told
            assert view.report == report
            assert view.active
            assert not view.evicted
            assert 0 <= view.seen_at - view.started_at < 0.01
            assert 0 <= view.silent_s < 10

    asyncio.run(play())


def test_a_beat_updates_the_report_and_tells_what_is_newest(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            await store.register(member("one", "a"), ACTIVE)
            await store.publish("pools: {}", author="", note="", expected=None)
            beat = await store.beat("one", "a", Report("active", 1))
            assert (beat.known, beat.newest) == (True, 1)
            (view,) = await store.members(60.0)
            assert view.report.revision == 1
            assert view.seen_at > view.started_at

    asyncio.run(play())


def test_who_is_not_listed_is_told_to_register(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            beat = await store.beat("one", "a", ACTIVE)
            assert (beat.known, beat.replaced) == (False, False)

    asyncio.run(play())


def test_a_new_incarnation_replaces_the_old_with_all_it_held(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            await store.register(member("one", "a"), ACTIVE)
            held = await taken(store, "leader", "a")
            await store.register(member("one", "b"), ACTIVE)
            assert [view.member.incarnation for view in await store.members(60.0)] == ["b"]
            beat = await store.beat("one", "a", ACTIVE)
            assert (beat.known, beat.replaced) == (False, True)
            with pytest.raises(FencedError):
                await store.write(held, "k", "v")
            assert (await taken(store, "leader", "b")).token == held.token + 1

    asyncio.run(play())


def test_registering_again_keeps_what_is_held(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            await store.register(member("one", "a"), ACTIVE)
            held = await taken(store, "leader", "a")
            await store.register(member("one", "a"), ACTIVE)
            await store.write(held, "k", "v")

    asyncio.run(play())


def test_leaving_frees_what_was_held(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            await store.register(member("one", "a"), ACTIVE)
            held = await taken(store, "leader", "a")
            assert await store.unregister("a")
            assert not await store.unregister("a")
            assert await store.members(60.0) == ()
            assert await store.renew(held, 60.0) is None
            assert (await taken(store, "leader", "b")).token == held.token + 1

    asyncio.run(play())


def test_who_is_evicted_is_told_and_holds_nothing_more(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            assert not await store.evict("one")
            await store.register(member("one", "a"), ACTIVE)
            held = await taken(store, "leader", "a")
            assert await store.evict("one")
            beat = await store.beat("one", "a", ACTIVE)
            assert (beat.known, beat.evicted) == (True, True)
            with pytest.raises(FencedError):
                await store.write(held, "k", "v")
            (view,) = await store.members(60.0)
            assert view.evicted
            assert not view.active
            await store.register(member("one", "b"), ACTIVE)
            assert not (await store.beat("one", "b", ACTIVE)).evicted, "a new life begins anew"

    asyncio.run(play())


def test_the_leader_strikes_off_who_is_silent_but_never_itself(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            for name, incarnation in (("one", "a"), ("two", "b"), ("three", "c")):
                await store.register(member(name, incarnation), ACTIVE)
            theirs = await taken(store, "other", "b")
            held = await taken(store, "leader", "a")
            assert await store.forget(held, 60.0) == ()

            async def all_gone() -> bool:
                return await store.forget(held, 0.001) == ("three", "two")

            await eventually(all_gone)
            assert [view.member.instance_id for view in await store.members(60.0)] == ["one"]
            with pytest.raises(FencedError):
                await store.write(theirs, "k", "v")
            kinds = [(row.kind, row.instance_id) for row in await store.events(2)]
            assert sorted(kinds) == [("forgotten", "three"), ("forgotten", "two")]

    asyncio.run(play())


def test_active_is_who_was_heard_within_the_window(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            await store.register(member(), ACTIVE)

            async def silent() -> bool:
                (view,) = await store.members(0.001)
                return not view.active

            await eventually(silent)
            (view,) = await store.members(60.0)
            assert view.active

    asyncio.run(play())


def test_revisions_count_up_and_keep_their_documents(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            assert await store.revisions() == ()
            first = await store.publish("a: 1", author="ann", note="first", expected=0)
            second = await store.publish("a: ü", author="bob", note="", expected=1)
            assert (first.number, second.number) == (1, 2)
            assert first.digest != second.digest
            assert await store.revisions() == (second, first)
            assert await store.revisions(1) == (second,)
            kept = await store.revision(2)
            assert kept is not None
            assert (kept.head, kept.document) == (second, "a: ü")
            assert await store.revision(3) is None

    asyncio.run(play())


def test_who_expected_another_newest_revision_publishes_nothing(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            await store.publish("a: 1", author="", note="", expected=None)
            with pytest.raises(ConflictError) as refused:
                await store.publish("a: 2", author="", note="", expected=0)
            assert refused.value.newest == 1
            with pytest.raises(ConflictError):
                await store.rollback(1, author="", note="", expected=7)
            assert [head.number for head in await store.revisions()] == [1]
            await store.publish("a: 3", author="", note="", expected=1)

    asyncio.run(play())


def test_a_rollback_is_a_new_revision(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            first = await store.publish("a: 1", author="", note="", expected=None)
            await store.publish("a: 2", author="", note="", expected=None)
            back = await store.rollback(1, author="ann", note="it was bad", expected=2)
            assert back is not None
            assert (back.number, back.rolled_back_to, back.digest) == (3, 1, first.digest)
            kept = await store.revision(3)
            assert kept is not None
            assert kept.document == "a: 1"
            assert await store.rollback(9, author="", note="", expected=None) is None
            none = await store.rollback(0, author="", note="", expected=None)
            assert none is not None
            assert (none.number, none.rolled_back_to, none.digest) == (4, 0, "")
            kept = await store.revision(4)
            assert kept is not None
            assert kept.document is None

    asyncio.run(play())


def test_old_revisions_and_events_are_struck_off_but_never_the_newest(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            held = await taken(store, "leader", "a")
            for number in range(5):
                await store.publish(f"a: {number}", author="", note="", expected=None)
            assert await store.prune(held, revisions_max=2, events_max=3) == 3 + 2
            assert [head.number for head in await store.revisions()] == [5, 4]
            assert len(await store.events()) == 3
            await store.publish("a: 5", author="", note="", expected=5)
            assert await store.prune(held, revisions_max=100, events_max=100) == 0

    asyncio.run(play())


def test_events_are_listed_newest_first(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            await store.note("elected", "one", "token 1")
            await store.note("stepped-down", "one", "it was asked to")
            rows = await store.events(10)
            assert [(row.kind, row.instance_id) for row in rows] == [
                ("stepped-down", "one"),
                ("elected", "one"),
            ]
            assert rows[0].at >= rows[1].at
            assert rows[0].number > rows[1].number
            assert len(await store.events(1)) == 1

    asyncio.run(play())


def test_what_is_kept_outlives_the_process(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            held = await taken(store, "leader", "a")
            await store.write(held, "k", "v")
        async with opened(where()) as store:
            assert await store.read("k") == "v"
            assert await store.renew(held, 60.0)
            with pytest.raises(FencedError):
                await store.write(Held("leader", "a", 9), "k", "w")

    asyncio.run(play())


def test_closing_twice_and_using_it_again_is_fine(where: Where) -> None:
    async def play() -> None:
        async with opened(where()) as store:
            await store.close()
            await store.close()
            await store.open()
            assert await store.members(1.0) == ()

    asyncio.run(play())
