"""What can be fuzzed: for each a check, what to begin with, and words to make inputs of."""

import itertools
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from tests.fuzz.config import SUFFIXES, config_load
from tests.fuzz.exchange import exchange
from tests.fuzz.framing import frames, framing
from tests.fuzz.identity import identity
from tests.fuzz.lane import lane_request, lane_response
from tests.fuzz.wire import wire_request, wire_response

ROOT: Final = Path(__file__).resolve().parents[2]
CORPUS: Final = ROOT / "tests" / "corpus"
FOUND: Final = Path(__file__).parent / "found"
_WORDS: Final = tomllib.loads((Path(__file__).parent / "words.toml").read_text())
_KNOBS: Final = (b"\x80\x00\x00\x00", b"\x01\x10\x11\xf0", b"\x14\x00\x40\x20", b"\x8d\x00\x00\x00")


class Target(NamedTuple):
    """One thing to fuzz."""

    check: Callable[[bytes], None]  # raises when a rule is broken
    seeds: Callable[[], Iterator[bytes]]
    words: list[str]  # Latin-1


def corpus() -> Iterator[bytes]:
    """Every text of every case in the corpus that looks like a part of a message."""
    for path in sorted(CORPUS.rglob("*.toml")):
        for text in _texts(tomllib.loads(path.read_text())):
            if "\r\n" in text:
                yield text.encode("latin-1", "replace")


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for each in inner:
        yield from _texts(each)


def found(name: str) -> Iterator[tuple[str, bytes]]:
    """What was found by fuzzing a target, once: a name and the input."""
    path = FOUND / f"{name}.toml"
    if path.exists():
        for case in tomllib.loads(path.read_text())["case"]:
            parts = (
                case.get("begins", ""),
                case["bytes"] * case.get("times", 1),
                case.get("ends", ""),
            )
            yield case["name"], "".join(parts).encode("latin-1")


def _heads() -> Iterator[bytes]:
    yield from corpus()


def _with_knobs() -> Iterator[bytes]:
    for knobs, data in zip(itertools.cycle(_KNOBS), corpus(), strict=False):
        yield knobs + data


def _bodies() -> Iterator[bytes]:
    for data in corpus():
        body = data.partition(b"\r\n\r\n")[2]
        if body:
            yield _KNOBS[0] + body
            yield _KNOBS[1] + body


def _frames() -> Iterator[bytes]:
    for size in (0, 1, 3, 299, 300, 301, 1 << 31):
        yield _KNOBS[0] + size.to_bytes(4) + b"x" * min(size, 310)
        yield _KNOBS[1] + (size.to_bytes(4) + b"x" * min(size, 310)) * 3


def _identities() -> Iterator[bytes]:
    said = (
        b'\x00for=192.0.2.1;proto=https, for="[2001:db8::1]:80";by=_x',
        b'\x00for="a,\\"b";for=unknown,,for=10.0.0.1',
        b"\x01192.0.2.1, 10.0.0.2,[2001:db8::1]:443 , ::ffff:10.1.2.3, 10.0.0.3:80",
        b"\x02https\n\x03a.example:443\n\x04443\n\x05192.0.2.1",
        b"\x06abc-1\n\x07" + b"1.1 a",
    )
    yield from said
    yield b"\n".join(said)


def _configs() -> Iterator[bytes]:
    for path in sorted((ROOT / "conf").rglob("*.*")):
        suffix = path.suffix.replace(".yml", ".yaml")
        if suffix in SUFFIXES and path.stat().st_size < 20_000:
            yield bytes((SUFFIXES.index(suffix),)) + path.read_bytes()
    yield b"\x00a: &a [*a, *a]\nb: &b [*a, *a]\n<<: {x: 1}\n"
    yield b"\x00listeners: [{name: a, address: ':80'}]\nroutes: [{respond: {status: 204}}]\n"
    yield b'\x01{"listeners": [{"name": "a", "address": ":${N}"}], "pools": {"a": ["http://b:1"]}}'
    yield b"\x02[[listeners]]\nname = 'a'\naddress = '127.0.0.1:80'\n[node]\nworkers = 1\n"
    yield b"\x01" + b"[" * 40


def _worlds() -> Iterator[bytes]:
    dice = Random(1)
    for number in range(40):
        yield bytes((number,)) + dice.randbytes(200)


TARGETS: Final[dict[str, Target]] = {
    "lane_request": Target(lane_request, _heads, _WORDS["heads"]),
    "lane_response": Target(lane_response, _heads, _WORDS["heads"]),
    "wire_request": Target(wire_request, _with_knobs, _WORDS["heads"]),
    "wire_response": Target(wire_response, _with_knobs, _WORDS["heads"]),
    "framing": Target(framing, _bodies, _WORDS["chunks"]),
    "config_load": Target(config_load, _configs, _WORDS["config"]),
    "identity": Target(identity, _identities, _WORDS["identity"]),
    "exchange": Target(exchange, _worlds, []),
    "frames": Target(frames, _frames, []),
}
"""Every target by its name."""
