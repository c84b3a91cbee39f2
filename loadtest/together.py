"""The stage of what is measured of a cluster: the parts that its tests have, with real settings."""

import contextlib
from collections.abc import Iterator, Sequence

from loadtest.accounting import CpuTime, cpu_time_of
from tests.support.balanced import Balanced, Manner, balanced
from tests.support.instances import Together
from tests.support.loom import Loom, looms
from tests.support.origin import Origin
from tests.support.postgres import postgres


@contextlib.contextmanager
def together(*, alone: bool = False) -> Iterator[Together]:
    """A PostgreSQL, and a way to start instances that share it, with default settings.

    `alone`: they do not share it, nor anything else.
    """
    settings = {"fsync": "on", "synchronous_commit": "on"}
    with postgres(settings=settings) as server, looms("source") as proxies:
        yield Together(proxies, server, server.database(), hurried=False, alone=alone)


@contextlib.contextmanager
def behind_balancers(
    count: int, origin: str = "", *, alone: bool = False, **manner: object
) -> Iterator[Balanced]:
    """So many instances behind HAProxy and nginx, as the example has them.

    They pass everything on to `origin`, else to one that is made for them.
    """
    with contextlib.ExitStack() as held:
        url = origin or held.enter_context(Origin()).url
        made = held.enter_context(together(alone=alone))
        how = Manner(hurried=False, count=count, **manner)
        yield held.enter_context(balanced(made, url, how))


def cpu_of(instances: Sequence[Loom]) -> CpuTime:
    """CPU time that instances have used so far, with all their processes."""
    times = [cpu_time_of(loom.pid) for loom in instances]
    return CpuTime(sum(one.user_s for one in times), sum(one.kernel_s for one in times))


def markdown(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
