"""What a kind of text is: what it expects, and how it is read."""

from collections.abc import Callable

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """One kind of text."""

    expected: str  # a noun phrase
    do: str  # a sentence
    read: Callable[[str], str]
    private: bool = False  # never shown in a problem: it may hold a secret
