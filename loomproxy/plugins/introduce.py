"""How a plugin that runs becomes one that serves: the first calls, in the contract's order.

    health answers → metadata fits → initialize → health is healthy → models

Before `initialize` a plugin may say that it is not healthy, because it is not initialised: that it
answers is enough there. How long all may take is the caller's to bound.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from loomproxy.plugins.call import Caller, CallError
from loomproxy.plugins.contract import HealthStatus, Metadata, ModelInfo
from loomproxy.plugins.manifest import Found
from loomproxy.plugins.traces import open_to_others

POLL_MIN_S: Final = 0.01
POLL_MAX_S: Final = 0.25
"""How often a plugin is asked while it starts: soon at first, and less with each answer."""

_POLL_GROWTH: Final = 1.5
_OK: Final = 200  # whoever answers with this and is not understood will not be the next time


class IntroductionError(Exception):
    """It cannot serve; the text says why. `lasting`: it will not either when it is tried again."""

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        super().__init__(text)
        self.lasting = lasting


async def introduce(
    caller: Caller,
    found: Found,
    config: dict[str, object],
    waits: Callable[[str], None],
    *,
    port: int = 0,
) -> tuple[ModelInfo, ...]:
    """Make the first calls; return its models. `waits` is told what is being waited for.

    `port` is where a process of ours listens on TCP: on loopback only, or it is told nothing.
    IntroductionError when the plugin is not what its manifest says, or refuses.
    """
    await _until_health(caller, lambda _status: True, waits)
    if port:
        await _check_private(port)
    waits("its metadata")
    try:
        check(await caller.metadata(), found)
    except CallError as error:
        raise IntroductionError(str(error), lasting=error.status == _OK) from None
    waits("POST /initialize")
    try:
        await caller.initialize(config)
    except CallError as error:
        lasting = error.error.code == "invalid_request" and not error.error.transient
        raise IntroductionError(str(error), lasting=lasting) from None
    await _until_health(caller, lambda status: status.healthy, waits)
    if found.manifest.models is not None:
        return found.manifest.models
    waits("its models")
    try:
        return await caller.models()
    except CallError as error:
        raise IntroductionError(str(error)) from None


def check(metadata: Metadata, found: Found) -> None:
    """Whether a plugin is the one that its manifest describes."""
    expected = found.manifest.metadata.provider_type
    if metadata.provider_type != expected:
        raise IntroductionError(
            f"GET /metadata: provider_type is {metadata.provider_type!r}; expected {expected!r}, "
            f"as in {found.path}. Make both the same.",
            lasting=True,
        )


async def _check_private(port: int) -> None:
    """Whether nobody but this machine can reach it. Not lasting: it is given another port."""
    others = await asyncio.to_thread(open_to_others, port)
    if others:
        raise IntroductionError(
            f"it listens beyond loopback ({', '.join(others)}); expected LOOM_PLUGIN_HOST only. "
            "Listen on that, not on 0.0.0.0 or ::."
        )


async def _until_health(
    caller: Caller, good: Callable[[HealthStatus], bool], waits: Callable[[str], None]
) -> None:
    """Ask until it answers and the answer is good."""
    pause_s = POLL_MIN_S
    while True:
        try:
            status = await caller.health()
        except CallError as error:
            waits(f"an answer to GET /health ({error})")
        else:
            if good(status):
                return
            waits(f"a healthy answer to GET /health (it says: {status.message or 'not healthy'})")
        await asyncio.sleep(pause_s)  # noqa: TID251 # our own cadence of asking
        pause_s = min(POLL_MAX_S, pause_s * _POLL_GROWTH)
