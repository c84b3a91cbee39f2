"""What is wrong with a configuration, said so that the reader can mend it."""

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    path: str  # where, as in `pools.app.endpoints[2].weight`; or a file with line and column
    seen: str  # a claim on what is there, as in `0 is below 1`
    expected: str  # a noun phrase, as in `a whole number from 1 to 1000`
    do: str  # a sentence, as in `To stop traffic to it, set enabled: false.`

    def __str__(self) -> str:
        """All four in one line."""
        return f"{self.path}: {self.seen}; expected {self.expected}. {self.do}"


class Problems(msgspec.Struct, frozen=True):
    """Everything that is wrong, in the order of the file where that is known; never empty."""

    items: tuple[Problem, ...]

    def __str__(self) -> str:
        """One line each."""
        return "\n".join(str(problem) for problem in self.items)
