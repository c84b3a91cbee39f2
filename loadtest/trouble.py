"""The one thing that ends a measurement early, in words for whoever started it."""

import sys
from collections.abc import Callable, Iterable

INTERRUPTED = 130  # As shells have it: 128 and the number of SIGINT.


class Trouble(Exception):
    """A measurement cannot go on: says where, what was seen, what was expected, what to do."""


def status_of(work: Callable[[], int]) -> int:
    """Do `work` and return its exit status; 1 when trouble ended it, which is told."""
    try:
        return work()
    except Trouble as trouble:
        print(trouble, file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("interrupted; all that was started is ended", file=sys.stderr, flush=True)
        return INTERRUPTED


def check_bounds(bounds: Iterable[tuple[str, float, float, float]]) -> None:
    """Refuse what cannot be meant: Trouble names the option; each is name, value, least, most."""
    for name, seen, low, high in bounds:
        if not low <= seen <= high:
            raise Trouble(f"{name}: {seen} is not within {low} and {high}.")
