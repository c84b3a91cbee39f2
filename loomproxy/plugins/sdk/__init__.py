"""A provider plugin in twenty lines, with nothing but the standard library (Python 3.9 and later).

    from loomproxy.plugins import sdk

    plugin = sdk.Plugin("shout", version="1.0.0")
    plugin.model("shout-1")

    @plugin.chat
    async def chat(request: sdk.Request):
        for word in request.prompt.split():
            yield word.upper() + " "

    if __name__ == "__main__":
        plugin.run()

The handler yields or returns, as it likes; whether the proxy asked for a stream or for one answer
is not its concern. `sdk.PluginError` says what went wrong, `sdk.Usage` what it cost, a dataclass
with `sdk.option` and `sdk.secret` what can be configured; `sdk.Client` asks the provider.

`loomproxy plugins test DIR` holds a plugin to the contract. Its own tests serve it with
`async with plugin.serving("127.0.0.1:0", "token") as running`, at `running.address`.

What a plugin says with `print` or on stderr is in the proxy's log, tagged with its name.
"""

import sys as _sys

if _sys.version_info < (3, 9):  # noqa: UP036 - the system's python3 may be older than the proxy's
    raise SystemExit(
        f"loomproxy.plugins.sdk needs Python 3.9, this is {_sys.version.split()[0]}. "
        "Name a later one as `command` in plugin.yaml."
    )

from loomproxy.plugins.sdk.about import Health, Model
from loomproxy.plugins.sdk.chat import Delta, Piece, Reply, Request, Usage, text_of
from loomproxy.plugins.sdk.client import Client, Stream, Timeouts
from loomproxy.plugins.sdk.config import option, secret
from loomproxy.plugins.sdk.errors import PluginError
from loomproxy.plugins.sdk.plugin import API_VERSION, Plugin
from loomproxy.plugins.sdk.server import Bounds
from loomproxy.plugins.sdk.upstream import message_of, retry_after
from loomproxy.plugins.sdk.wire import Event

__all__ = [
    "API_VERSION",
    "Bounds",
    "Client",
    "Delta",
    "Event",
    "Health",
    "Model",
    "Piece",
    "Plugin",
    "PluginError",
    "Reply",
    "Request",
    "Stream",
    "Timeouts",
    "Usage",
    "message_of",
    "option",
    "retry_after",
    "secret",
    "text_of",
]
