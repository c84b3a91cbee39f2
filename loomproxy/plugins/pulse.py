"""How a plugin's health is judged: two bad probes take it out, two good ones bring it back.

Pure decisions, for one process of a plugin; `replica` and `remote` ask, and do what follows.

* A probe is *bad* when the plugin says that it is not healthy, and when it does not answer at all.
* One that did not answer `SILENCES_MAX` times in a row while its process lives hangs: it is
  restarted. One that answers, however badly, is only taken out: a restart would lose what it does.
"""

from typing import Final

FALL: Final = 2
"""Bad probes in a row that take a plugin out of rotation: one alone may be a hiccup."""

RISE: Final = 2
"""Good ones in a row that bring it back."""

SILENCES_MAX: Final = 3
"""Probes in a row without an answer, after which it is taken for hung."""

UNSETTLED_INTERVAL_S: Final = 1.0
"""How soon the next probe comes, at the latest, where the last one was bad or changed something.

Else a plugin with the usual interval of a minute would be out for two of them.
"""


class Pulse:
    """What the probes of one process found so far."""

    __slots__ = ("_alike", "_silences", "healthy")

    def __init__(self) -> None:
        self.healthy = True  # it was, when it became READY
        self._alike = 0  # probes in a row that contradict `healthy`
        self._silences = 0  # in a row

    def answered(self, *, healthy: bool) -> bool:
        """It said how it is; return whether that changed `healthy`."""
        self._silences = 0
        return self._judge(good=healthy)

    def silent(self) -> bool:
        """It did not answer; return whether that changed `healthy`."""
        self._silences += 1
        return self._judge(good=False)

    @property
    def hangs(self) -> bool:
        """Whether it has not answered for too long."""
        return self._silences >= SILENCES_MAX

    @property
    def answers(self) -> bool:
        """Whether it answered the last time, whatever it said."""
        return self._silences == 0

    def next_in_s(self, interval_s: float) -> float:
        """When to probe again, where `interval_s` is what was configured."""
        if self.healthy and not self._alike:
            return interval_s
        return min(interval_s, UNSETTLED_INTERVAL_S)

    def _judge(self, *, good: bool) -> bool:
        if good is self.healthy:
            self._alike = 0
            return False
        self._alike += 1
        if self._alike < (RISE if good else FALL):
            return False
        self.healthy = good
        self._alike = 0
        return True
