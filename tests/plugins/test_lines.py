"""The last lines of a plugin: numbered, bounded, and waited for."""

import asyncio

from loomproxy.plugins.lines import LINES_MAX, Lines


def test_lines_are_numbered_and_the_oldest_go_first() -> None:
    lines = Lines()
    for number in range(LINES_MAX + 5):
        lines.add(1, 0, "stderr", f"line {number}")
    kept = lines.since(0, 10 * LINES_MAX)
    assert [line.number for line in kept] == list(range(6, LINES_MAX + 6))
    assert kept[0].text == "line 5"
    assert [line.number for line in lines.since(LINES_MAX, 2)] == [LINES_MAX + 4, LINES_MAX + 5]
    assert lines.since(LINES_MAX + 5, 10) == ()
    assert lines.since(0, 0) == ()


def test_who_follows_is_woken_by_the_next_line() -> None:
    async def play() -> None:
        lines = Lines()
        assert not await lines.until(0, 0.0)
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(lines.until(0, 10.0)) for _ in range(2)]
            await asyncio.sleep(0)
            lines.add(1, 0, "stdout", "here")
        assert all(wait.result() for wait in waits)
        assert await lines.until(0, 0.0)

    asyncio.run(play())


def test_who_followed_an_earlier_plugin_of_this_name_follows_the_next_from_its_first_line() -> None:
    async def play() -> None:
        lines = Lines()
        assert lines.since(500, 10) == ()
        assert not await lines.until(500, 0.0)
        lines.add(1, 0, "stdout", "here")
        assert await lines.until(500, 0.0)
        assert [line.text for line in lines.since(500, 10)] == ["here"]

    asyncio.run(play())
