"""Which route a request takes, and what a route asks for.

`match` says what a route is for, `action` what it does, `table` which of several wins.
"""

from loomproxy.core.route.action import (
    HOST_OF_ENDPOINT,
    REDIRECT_STATUSES,
    WEBSOCKET_ONLY,
    Action,
    Chat,
    Models,
    PathRewrite,
    Redirect,
    Respond,
    RetryPolicy,
    Route,
    Serve,
    Timeouts,
    ToPool,
)
from loomproxy.core.route.match import (
    Condition,
    Match,
    PathKind,
    ValueKind,
    normal_path,
    normal_prefix,
)
from loomproxy.core.route.table import RouteTable, precedence

__all__ = [
    "HOST_OF_ENDPOINT",
    "REDIRECT_STATUSES",
    "WEBSOCKET_ONLY",
    "Action",
    "Chat",
    "Condition",
    "Match",
    "Models",
    "PathKind",
    "PathRewrite",
    "Redirect",
    "Respond",
    "RetryPolicy",
    "Route",
    "RouteTable",
    "Serve",
    "Timeouts",
    "ToPool",
    "ValueKind",
    "normal_path",
    "normal_prefix",
    "precedence",
]
