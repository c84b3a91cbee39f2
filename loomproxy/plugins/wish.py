"""What should run of one plugin: its files and its configuration, and whether anybody wants it.

A generation keeps the goal it was made for; whether another goal needs another one is `run`.
"""

from pathlib import Path

import msgspec

from loomproxy.plugins.manifest import Found, Manifest


class Wish(msgspec.Struct, frozen=True):
    """What the files and the configuration say of one plugin."""

    provider_type: str
    found: Found  # the last manifest that could be read
    digest: str = ""  # of its files
    config: dict[str, object] = {}  # checked, with defaults
    interval_s: float = 60.0  # between two probes
    problems: tuple[str, ...] = ()  # why this cannot be run
    auto: bool = True  # start it without being told
    disabled: bool = False
    gone: bool = False  # its folder is

    @property
    def manifest(self) -> Manifest:
        """Of the plugin."""
        return self.found.manifest

    @property
    def path(self) -> Path:
        """Of its manifest."""
        return self.found.path


class Goal(msgspec.Struct, frozen=True):
    """A wish, and what operators want of it."""

    wish: Wish
    asked: bool | None = None  # to start, or to stop; None: nobody said
    times: int = 0  # how often it was told to begin anew, whatever the files say

    @property
    def run(self) -> tuple[object, ...]:
        """What a generation is made of: where this differs, another one is needed."""
        wish = self.wish
        return wish.found, wish.digest, wish.config, self.times

    @property
    def wanted(self) -> bool:
        """Whether it should run."""
        if self.wish.gone or self.wish.disabled:
            return False
        return self.wish.auto if self.asked is None else self.asked
