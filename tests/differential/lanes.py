"""The proxies under comparison, each with lanes: a listener and a recording upstream of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from tests.differential.play import Lanes
from tests.differential.recorder import Recorder
from tests.support.loom import looms, pool, settings

LANES: Final = 8
"""Cases played at one time: enough that those that wait for a timeout do not add up."""

TIMEOUT_S: Final = 4
"""How long ours waits for the rest of a head or a body: far above what a busy machine may take
between two pieces of a case, which is sent without a pause."""

OTHERS_TIMEOUT_S: Final = 2
"""The same of the others, which wait more often. What differs is judged twice."""

FIXED: Final = "/fixed"
"""A path that each proxy answers itself, with `FIXED_BODY`."""

FIXED_BODY: Final = "fixed"


@contextlib.asynccontextmanager
async def recorders() -> AsyncIterator[tuple[list[Recorder], list[int]]]:
    """Recording upstreams, one for each lane, and their ports."""
    made = [Recorder() for _ in range(LANES)]
    ports = [await recorder.listen() for recorder in made]
    try:
        yield made, ports
    finally:
        for recorder in made:
            await recorder.leave()


@contextlib.asynccontextmanager
async def loomproxy() -> AsyncIterator[Lanes]:
    """One of ours, of one worker."""
    async with recorders() as (made, ports):
        with looms("source") as subjects:
            loom = await asyncio.to_thread(subjects.start, _settings(ports))
            yield [(loom.addresses[name][1], to) for name, to in zip(_names(), made, strict=True)]


def _names() -> list[str]:
    return [f"lane-{number}" for number in range(LANES)]


def _settings(ports: list[int]):
    listeners = [{"name": name, "head_timeout": TIMEOUT_S} for name in _names()]
    routes = [
        {"match": {"listeners": name}, "pool": name, "retry": {"attempts_max": 1}}
        for name in _names()
    ]
    routes.append({"match": {"path": FIXED}, "respond": {"body": FIXED_BODY}})
    pools = {
        name: pool(f"http://127.0.0.1:{port}", ejection={"failures": 0})
        for name, port in zip(_names(), ports, strict=True)
    }
    timeouts = {"idle": TIMEOUT_S}
    return settings(listeners=listeners, routes=routes, pools=pools, timeouts=timeouts)
