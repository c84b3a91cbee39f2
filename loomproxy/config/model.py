"""Every key of the configuration: its type, unit, bounds, default and meaning.

The structs are the single source: the loader checks by them, `docs/configuration.md` and
`conf/schema.json` are generated from them. What can be said about one value alone (its type, its
bounds, its *kind*: a duration, a network, a regular expression …) is said here; what needs two
values (a route that names a pool) is `config.check`'s.

A key is its attribute's name, but for durations: `idle_timeout_s` is written `idle_timeout: 4s`.
Structs travel from the node to its workers as they are, so every value is plain: text, numbers,
tuples, dicts, structs.

`Static` keys need a restart; `Dynamic` ones are published to running workers; `Plugins` are
followed by the node, and hold secrets that no worker needs.
"""

import msgspec

from loomproxy.config.cluster import Cluster, Database
from loomproxy.config.dynamic import (
    Dynamic,
    Forwarded,
    HeaderChange,
    Limits,
    Match,
    Redirect,
    Respond,
    Retry,
    Rewrite,
    Route,
    RouteTimeouts,
    Timeouts,
)
from loomproxy.config.plugins import Plugins
from loomproxy.config.pools import Ejection, Endpoint, Keepalive, Pool, Probe, RetryBudget, Tls
from loomproxy.config.static import AccessLog, Admin, Drain, Listener, Node, Static

__all__ = [
    "AccessLog",
    "Admin",
    "Cluster",
    "Config",
    "Database",
    "Drain",
    "Dynamic",
    "Ejection",
    "Endpoint",
    "Forwarded",
    "HeaderChange",
    "Keepalive",
    "Limits",
    "Listener",
    "Match",
    "Node",
    "Plugins",
    "Pool",
    "Probe",
    "Redirect",
    "Respond",
    "Retry",
    "RetryBudget",
    "Rewrite",
    "Route",
    "RouteTimeouts",
    "Static",
    "Timeouts",
    "Tls",
]


class Config(msgspec.Struct, frozen=True):
    """A whole configuration.

    In a file, the keys of the first two structs stand side by side, and `plugins` beside them.
    """

    static: Static
    dynamic: Dynamic
    plugins: Plugins = Plugins()  # of the node alone: what workers get has none
