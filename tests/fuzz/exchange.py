"""Worlds of exchanges whose dice are the input: the simulator, with coverage for its guide."""

from random import Random
from typing import Final

from tests.sim.world import Sim

THROWS_MAX: Final = 1000  # bytes of dice; a world that takes many more steps than that is refused


class Given(Random):
    """Dice whose throws are the bytes of an input, one after the other; then they are chance."""

    def __init__(self, throws: bytes) -> None:
        super().__init__(len(throws))
        self._throws = throws
        self._at = 0

    def random(self) -> float:
        """One byte, or chance."""
        if self._at >= len(self._throws):
            return super().random()
        return self.getrandbits(8) / 256

    def getrandbits(self, k: int) -> int:
        """As many bytes as hold `k` bits, or chance."""
        size = (k + 7) // 8
        if self._at + size > len(self._throws):
            self._at = len(self._throws)
            return super().getrandbits(k)
        taken = self._throws[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "little") & ((1 << k) - 1)


def exchange(given: bytes) -> None:
    """Every rule of the exchange holds; the first byte says whether h11 reads what went out."""
    Sim(given[0] if given else 0, dice=Given(given[1:THROWS_MAX])).run()
