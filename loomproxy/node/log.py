"""The node's own log: one key=value line on stderr per fact, in glossary words.

Requests are logged by the workers, elsewhere. What is written here is rare and is meant for a
person or a journal; a reader that went away must not take the node with it.
"""

import contextlib
import re
import sys
from datetime import UTC, datetime
from typing import Final

_PLAIN: Final = re.compile(r"[^\s\"=\\]+")


def log(event: str, /, *, level: str = "info", **facts: object) -> None:
    """Write one line: when, how serious (`info`, `warning`, `error`), what, and its facts."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    pairs = {"at": at, "level": level, "event": event, **facts}
    line = " ".join(f"{key}={_quoted(str(value))}" for key, value in pairs.items())
    with contextlib.suppress(OSError, ValueError):  # nobody reads any more
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _quoted(text: str) -> str:
    """`text` as it is, or in quotes where a reader could not tell where it ends."""
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
