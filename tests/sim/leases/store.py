"""The store of a simulated world: the row of one lease, and effects that are guarded by it.

What a row becomes is `core.lease`'s to say, as in the real stores. What may be done under it is
judged here a second time, in other words, so that a mistake there does not excuse itself.
"""

from dataclasses import dataclass

from loomproxy.core import lease
from loomproxy.core.lease import NOBODYS, Row

TTL_S = 10.0


class Rule(AssertionError):
    """Something happened that must never happen."""


@dataclass(frozen=True)
class Effect:
    """Something that was done under the lease, and cannot be undone."""

    owner: str
    token: int


class Store:
    """One lease, as the store has it."""

    def __init__(self) -> None:
        self.row: Row = NOBODYS
        self.effects: list[Effect] = []
        self.owners: dict[int, str] = {}  # who had which token
        self.guarded = True

    def ask(self, owner: str, now: float) -> Row | None:
        taken = lease.take(self.row, owner, TTL_S, now)
        if taken is not None:
            if self.row.owner and self.row.expires_at > now:
                raise Rule(f"{owner} took what {self.row.owner} held")
            if taken.token <= self.row.token:
                raise Rule(f"the token went from {self.row.token} to {taken.token}")
            if taken.token in self.owners:
                raise Rule(f"token {taken.token} was {self.owners[taken.token]}'s already")
            self.owners[taken.token] = owner
            self._become(taken)
        return taken

    def renew(self, owner: str, token: int, now: float) -> Row | None:
        kept = lease.renew(self.row, owner, token, TTL_S, now)
        if kept is not None:
            if (self.row.owner, self.row.token) != (owner, token) or self.row.expires_at <= now:
                raise Rule(f"{owner} renewed what was not its own any more")
            self._become(kept)
        return kept

    def release(self, owner: str, token: int) -> None:
        freed = lease.free(self.row, owner, token)
        if freed is not None:
            if (self.row.owner, self.row.token) != (owner, token):
                raise Rule(f"{owner} gave back token {token}, and lost {self.row.token}")
            self._become(freed)

    def step_down(self) -> None:
        self._become(lease.ask_to_step_down(self.row))

    def evict(self) -> None:
        self._become(lease.take_away(self.row))

    def affect(self, owner: str, token: int, now: float) -> bool:
        """A guarded write: whether it was done."""
        if self.guarded and not lease.permits(self.row, owner, token, now):
            return False
        row = self.row
        if row.owner != owner or row.token != token or row.expires_at <= now:
            raise Rule(f"an effect of {owner} under token {token}, while the row is {row}")
        if self.effects and self.effects[-1].token > token:
            raise Rule(f"an effect under token {token} after one under {self.effects[-1].token}")
        self.effects.append(Effect(owner, token))
        return True

    def _become(self, row: Row) -> None:
        if row.token < self.row.token:
            raise Rule(f"the token went back from {self.row.token} to {row.token}")
        self.row = row
