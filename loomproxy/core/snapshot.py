"""The frozen world an exchange is born into: routes, pools, limits and policy of one revision.

An exchange keeps the snapshot it was born with until it is over, however many revisions are
published meanwhile. Nothing here changes after it was made.
"""

from typing import Final

import msgspec

from loomproxy.core.chat.catalogue import Catalogue
from loomproxy.core.chat.provider import Provider
from loomproxy.core.http1.limits import Limits
from loomproxy.core.hygiene import ForwardPolicy
from loomproxy.core.pool import PoolSpec
from loomproxy.core.route import RouteTable, Timeouts

NO_MODELS: Final = Catalogue()
"""Of a snapshot without providers."""


class Snapshot(msgspec.Struct, frozen=True):
    """One published configuration, compiled."""

    revision: int  # grows with each publication
    table: RouteTable
    pools: dict[str, PoolSpec]  # by name; every pool that a route or a provider names is here
    policy: ForwardPolicy
    limits: Limits  # of a connection; body_bytes_max is the largest that any route allows
    timeouts: Timeouts  # where no route was found
    providers: dict[str, Provider] = {}  # by provider_type
    catalogue: Catalogue = NO_MODELS  # of their models
