"""Seeded bugs of leases: in what a row becomes, in what a holder believes, in the store's guard."""

import contextlib
from collections.abc import Iterator
from typing import Final

from loomproxy.core import lease
from loomproxy.core.lease import Holder
from tests.sim.leases.store import Store
from tests.sim.leases.world import Broken, World
from tests.sim.mutants import Mutant

WORLDS_MAX: Final = 400
"""So many worlds must be enough to catch any of them."""


class LeaseMutant(Mutant):
    """One seeded bug, before worlds in which many want one lease."""

    def caught_by(self) -> Broken | None:
        with self.at_large():
            return _first_broken()


@contextlib.contextmanager
def unguarded() -> Iterator[None]:
    """A store that does not ask for the token: what the fence is there for."""
    sound = Store.__init__

    def without(self: Store) -> None:
        sound(self)
        self.guarded = False

    Store.__init__ = without  # type: ignore[method-assign] # that is the bug
    try:
        yield
    finally:
        Store.__init__ = sound  # type: ignore[method-assign] # it is out again


def unguarded_is_caught_by() -> Broken | None:
    """What the first world says whose store has no guard."""
    with unguarded():
        return _first_broken()


def _first_broken() -> Broken | None:
    for seed in range(WORLDS_MAX):
        try:
            World(seed).run()
        except Broken as broken:
            return broken
    return None


MUTANTS: Final = (
    LeaseMutant("the token stays when the lease changes hands", lease.take,
                "row.token + 1", "row.token or 1"),
    LeaseMutant("what is held can be taken", lease.take, "is_held(row, now)", "False"),
    LeaseMutant("an old token of the same owner may write", lease.permits,
                " and row.token == token", ""),
    LeaseMutant("what ran out may still write", lease.permits, "is_held(row, now) and ", ""),
    LeaseMutant("whoever asks renews", lease.renew,
                "not permits(row, owner, token, now)", "row.owner == ''"),
    LeaseMutant("renewing does not prolong", lease.renew, "now + ttl_s", "row.expires_at"),
    LeaseMutant("renewing forgets that it is to be let go", lease.renew, "row.leaving", "False"),
    LeaseMutant("a late release frees what is held since", lease.free,
                " or row.token != token", ""),
    LeaseMutant("a release of somebody else frees it", lease.free, "row.owner != owner or ", ""),
    LeaseMutant("the token begins anew after a release", lease.take_away, "row.token", "0"),
    LeaseMutant("a holder counts from the answer", Holder._granted,
                "self._believe()", "self._asked_at = now; self._believe()"),
    LeaseMutant("a holder believes for ever", Holder.handle,
                "now >= self.believes_until", "False"),
    LeaseMutant("a holder does not hear that it lost", Holder._answered,
                "return self._lose(now)", "return self._later(1.0, now)"),
    LeaseMutant("a lost lease does not cancel the work", Holder._lose,
                "[Cancel(lost=True), Release(self.token)]", "[Release(self.token)]"),
    LeaseMutant("a late answer to a question given up counts", Holder.give_up,
                "self._number += 1", "pass"),
    LeaseMutant("any answer is taken for the one awaited", Holder.handle,
                "event.number != self._number", "False"),
    LeaseMutant("nobody steps down", Holder._renewed, "event.leaving", "False"),
    LeaseMutant("who steps down takes it again", Holder.give_up,
                "now + self._patience.ttl_s", "now"),
    LeaseMutant("who steps down gives nothing back", Holder.give_up,
                "[Cancel(lost=False), Release(self.token)]", "[Cancel(lost=False)]"),
    LeaseMutant("a refused write changes nothing", Holder.fenced,
                "self._lose(now) if self.believes else []", "[]"),
    LeaseMutant("a failed try is the last one", Holder._later,
                "now + wait_s\n    ", "NEVER\n    "),
)  # fmt: skip
