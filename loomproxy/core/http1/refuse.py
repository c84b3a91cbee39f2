"""How a reader of heads says no, from however deep it stands: with a fault and what was seen."""

from typing import Final, NoReturn

from loomproxy.core import fault as faults
from loomproxy.core.fault import Fault
from loomproxy.core.http1.limits import Refusal

_SHOWN_BYTES_MAX: Final = 60


class Unacceptable(Exception):
    """The head must be refused."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(fault, detail)


def shown(seen: bytes) -> str:
    """Something a peer sent, for a log line: short and without control characters."""
    return repr(seen[:_SHOWN_BYTES_MAX])[1:]


def malformed(detail: str) -> NoReturn:
    """Refuse a head that breaks the grammar, or could be read in two ways."""
    unacceptable(faults.REQUEST_MALFORMED, detail)


def unacceptable(fault: Fault, detail: str) -> NoReturn:
    """Refuse a head for another reason."""
    raise Unacceptable(fault, detail)
