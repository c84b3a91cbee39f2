"""The examples as they are shipped: loaded from their folders, unmodified, into this process."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from loomproxy.plugins.sdk.chat import Joined
from loomproxy.plugins.sdk.wire import Event, Events, Lines

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "plugins"
GOLDEN = Path(__file__).resolve().parent / "golden"


def module(name: str, file: str = "plugin") -> ModuleType:
    """A fresh copy of an example's module; its neighbours are found, as when it runs."""
    place = FOLDER / name
    spec = importlib.util.spec_from_file_location(f"shipped_{file}", place / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    sys.path.insert(0, str(place))
    try:
        spec.loader.exec_module(made)
    finally:
        sys.path.remove(str(place))
    return made


def events(pieces: list[bytes]) -> list[Event]:
    """The events that bytes are, however they were cut."""
    lines, found = Lines(), Events()
    heard = [found.feed(line) for piece in pieces for line in lines.feed(piece)]
    return [event for event in heard if event is not None]


def completion(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """What chunks are together, without what differs each time."""
    joined = Joined()
    for chunk in chunks:
        joined.add(chunk)
    whole = joined.completion()
    del whole["created"]
    return whole


def golden(name: str) -> Any:
    """What a recorded stream must become."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def recorded(file: str) -> bytes:
    """A stream as a provider sends it."""
    return (GOLDEN / file).read_bytes()
