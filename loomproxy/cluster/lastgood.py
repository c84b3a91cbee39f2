"""The last published configuration that this instance could use, on its own disk.

With it an instance starts while the store is away. The file is replaced as a whole and reaches the
disk before it takes the old one's place (rename(2), fsync(2) of file and directory), so that it is
either the old or the new one whenever the machine stops; a digest tells what a disk did to it.
"""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from loomproxy.cluster.store import DOCUMENT_BYTES_MAX, digest_of

_FILE_BYTES_MAX: Final = 7 * DOCUMENT_BYTES_MAX
"""JSON writes a character as six bytes at worst, and ours has little around the document."""


class Kept(msgspec.Struct, frozen=True):
    """A revision as it lies on the disk."""

    number: int  # 0: nothing was published, and the instance ran its own file
    digest: str
    document: str | None


class LastGoodError(Exception):
    """The file cannot be written, or what it holds cannot be used; the text says what to do."""


class LastGood:
    """The file of one instance."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, number: int, document: str | None) -> None:
        """Keep this instead of what was kept. Takes as long as the disk does."""
        data = msgspec.json.encode(Kept(number, digest_of(document), document))
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}-", dir=self.path.parent)
            try:
                _write(handle, data)
                os.replace(name, self.path)  # noqa: PTH105 -- a name, as mkstemp gives it
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)  # noqa: PTH108 -- as above
                raise
            _sync_directory(self.path.parent)
        except OSError as error:
            raise LastGoodError(
                f"{self.path}: it cannot be written ({error.strerror}); expected a directory that "
                "the user of this node may write. Set cluster.state_directory to one."
            ) from None

    def load(self) -> Kept | None:
        """What was kept; None where nothing was. LastGoodError where it cannot be used."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_FILE_BYTES_MAX + 1)
            kept = msgspec.json.decode(data, type=Kept)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error.strerror or "it cannot be read") from None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._unusable("it is cut off or damaged") from None
        if kept.digest != digest_of(kept.document) or kept.number < 0:
            raise self._unusable("its digest is not that of what it holds")
        return kept

    def _unusable(self, why: str) -> LastGoodError:
        return LastGoodError(
            f"{self.path}: {why}; expected what this program has written. Remove it; the next "
            "published revision is kept anew."
        )


def _write(handle: int, data: bytes) -> None:
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
