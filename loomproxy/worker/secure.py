"""The TLS contexts of a worker: one for each way in which pools want endpoints to prove themselves.

They are made when a revision is published and kept while their files do not change; a connection
only looks its own up.
"""

import ssl
from collections.abc import Iterable
from typing import Any, Final

from loomproxy.config.trust import Stamp, UntrustworthyError, client_context, stamp
from loomproxy.core.endpoint import TLS_OF_SYSTEM, Endpoint, TlsSpec
from loomproxy.core.pool import PoolSpec

HANDSHAKE_S: Final = 3600.0
"""The event loop's own limit, as long as the longest `connect` timeout, which ends it before."""

GOODBYE_S: Final = 5.0
"""How long an endpoint may take to answer our close_notify; then the connection is reset."""

_PLAIN: Final[dict[str, Any]] = {}


class Secure:
    """The contexts of a worker."""

    def __init__(self) -> None:
        self._made: dict[TlsSpec, tuple[Stamp, ssl.SSLContext]] = {}
        self._failed: dict[TlsSpec, str] = {}

    def prepare(self, pools: Iterable[PoolSpec], *, as_before: bool = False) -> None:
        """Have what `pools` need, and nothing else; or raise UntrustworthyError.

        `as_before`: they are configured as they were. Then a file that was spoilt since is nobody's
        fault who publishes now, a plugin that starts for example: what was made of it serves on.
        That the system trusts nobody is no reason to: the node has looked at what it was configured
        to, and a plugin that cannot be believed is to fail alone.
        """
        made: dict[TlsSpec, tuple[Stamp, ssl.SSLContext]] = {}
        for pool in pools:
            if pool.tls not in made and any(each.address.tls for each in pool.endpoints):
                try:
                    made[pool.tls] = self._fresh(pool.tls)
                except UntrustworthyError as error:
                    if as_before:
                        made |= {tls: it for tls, it in self._made.items() if tls == pool.tls}
                    elif pool.tls != TLS_OF_SYSTEM:
                        raise error.of_pool(pool.name) from None
        self._made = made
        self._failed.clear()

    def _fresh(self, spec: TlsSpec) -> tuple[Stamp, ssl.SSLContext]:
        """The context that there is, or a new one if a file is not what it was."""
        now = stamp(spec)
        known = self._made.get(spec)
        return known if known is not None and known[0] == now else (now, client_context(spec))

    def towards(self, endpoint: Endpoint) -> dict[str, Any]:
        """What to open a connection to `endpoint` with, besides its address: nothing without TLS.

        Raise ssl.SSLError where there is no context: a worker that starts does so also when a file
        has been spoilt since the revision was published, and serves all other pools.
        """
        spec = endpoint.tls
        if spec is None:
            return _PLAIN
        return {
            "ssl": self._context(spec),
            "server_hostname": spec.server_name or endpoint.spec.address.host,
            "ssl_handshake_timeout": HANDSHAKE_S,
            "ssl_shutdown_timeout": GOODBYE_S,
        }

    def _context(self, spec: TlsSpec) -> ssl.SSLContext:
        """The context for `spec`; that of an earlier revision is made again for its exchanges."""
        known = self._made.get(spec)
        if known is None:
            if spec in self._failed:  # A file is not read again for each connection.
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, self._failed[spec])
            try:
                known = self._made[spec] = self._fresh(spec)
            except UntrustworthyError as error:
                self._failed[spec] = f"tls.{error.problem}"
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, self._failed[spec]) from None
        return known[1]
