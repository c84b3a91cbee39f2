"""References in text: `${NAME}`, `${NAME:-default}` and `${file:/path}`, resolved once.

What comes out is marked (`Resolved`), so that no problem ever repeats it: it may be a secret.
`$${` stands for a literal `${`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

FILE_BYTES_MAX: Final = 64 << 10
"""Of a file that a reference names. Secrets and bodies are small; a device file never ends."""

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class Resolved(str):
    """Text that came from the environment or a file; `origin` is the text with the reference."""

    __slots__ = ("origin",)

    origin: str

    def __new__(cls, value: str, origin: str) -> "Resolved":
        """Mark `value` as what `origin` stands for."""
        text = super().__new__(cls, value)
        text.origin = origin
        return text


class Sources:
    """Where references are looked up; `found` is what they stood for, for who has to hide it."""

    def __init__(self, environ: Mapping[str, str], read: Callable[[str], str]) -> None:
        """`read` gives a file's text, or raises OSError or ValueError with a claim."""
        self.found: set[str] = set()
        self._environ = environ
        self._read = read

    def resolve(self, text: str) -> str:
        """`text` with its references replaced; ValueError claims what is wrong with one."""
        if "${" not in text:
            return text
        resolved = _REFERENCE.sub(self._value, text)
        return Resolved(resolved, text)

    def _value(self, reference: re.Match[str]) -> str:
        whole, inner = reference[0], reference[1]
        if inner is None:
            return "${"
        if not whole.endswith("}"):
            raise ValueError("has a ${ without its }")
        if inner.startswith("file:"):
            return self._file(inner.removeprefix("file:"))
        match = _NAME.fullmatch(inner)
        if match is None:
            raise ValueError("has a ${…} that is neither a variable nor file:/path")
        name, default = match.groups()
        value = self._environ.get(name)
        if default is not None and not value:
            return default
        if value is None:
            raise ValueError(f"names the variable {name}, which is not set")
        self.found.add(value)
        return value

    def _file(self, path: str) -> str:
        try:
            value = self._read(path).removesuffix("\n")
        except OSError as error:
            raise ValueError(f"names a file that cannot be read ({error.strerror})") from None
        self.found.add(value)
        return value


class Verbatim(Sources):
    """For text that is not the operator's: in it, `${…}` means nothing and is left as it is."""

    def __init__(self) -> None:
        super().__init__({}, str)

    def resolve(self, text: str) -> str:
        """The text itself."""
        return text
