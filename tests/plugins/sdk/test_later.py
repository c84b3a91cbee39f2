"""What the SDK does by itself where Python is too old to have it."""

import subprocess

import pytest

from tests.plugins.sdk.test_run import environment
from tests.support import pythons

PLAY = """
import asyncio
from loomproxy.plugins.sdk.later import aclosing, timeout

async def numbers():
    try:
        yield 1
        yield 2
    finally:
        print("closed")

async def main():
    try:
        async with timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        print("late")
    async with timeout(5):
        print("early")
    async with aclosing(numbers()) as source:
        async for number in source:
            print(number)
            break

    async def waits():
        async with timeout(5):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("cancelled")

asyncio.run(main())
"""


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11"])
def test_timeouts_are_told_from_cancellations_on_every_python(version: str) -> None:
    python = pythons.find(version)
    if python is None:
        pytest.skip(f"this machine has no Python {version}")
    done = subprocess.run(
        [python, "-c", PLAY],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (
        ["late", "early", "1", "closed", "cancelled"],
        "",
    )


def test_an_even_older_python_says_what_it_lacks() -> None:
    python = next(filter(None, map(pythons.find, ("3.8", "3.7", "3.6"))), None)
    if python is None:
        pytest.skip("this machine has no Python older than 3.9")
    done = subprocess.run(
        [python, "-c", "from loomproxy.plugins import sdk"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("loomproxy.plugins.sdk needs Python 3.9, this is 3.")
    assert "Traceback" not in done.stderr
