"""What a proxy must strip and add in heads (RFC 9110 §7.6), and who the client is.

A head that arrived is a canonical block. What must not pass is cut out of it by one compiled
pattern; what we say ourselves is appended. Nothing is done per field. Which pattern, and which
lines the operator wants added, depends on the forward policy, on the route's operations and on
whether we trust the peer: that is compiled once into a *plan* and found again by identity.

What never passes: hop-by-hop fields, those that Connection nominates, `Proxy` (CVE-2016-5385), and
everything by which a client could claim to be somebody else (Forwarded, X-Forwarded-*, X-Real-IP)
or to ask for another path (X-Original-URL, X-Rewrite-URL), but for the one family of these that a
trusted peer is believed in. Framing and Host are always
written by us, once.
"""

from loomproxy.core.hygiene.heads import local_response, phrase, request_up, response_down
from loomproxy.core.hygiene.identity import client_ip, is_trusted, request_id
from loomproxy.core.hygiene.names import (
    HOP_BY_HOP,
    IDENTITY,
    OURS_ALONE,
    SHADOWED,
    any_case,
    misnominated,
    nominations,
    trailers,
    usual_nominations,
)
from loomproxy.core.hygiene.policy import (
    Family,
    ForwardPolicy,
    HeaderOps,
    Network,
    Peer,
    Values,
    ops_problem,
    touched,
)

__all__ = [
    "HOP_BY_HOP",
    "IDENTITY",
    "OURS_ALONE",
    "SHADOWED",
    "Family",
    "ForwardPolicy",
    "HeaderOps",
    "Network",
    "Peer",
    "Values",
    "any_case",
    "client_ip",
    "is_trusted",
    "local_response",
    "misnominated",
    "nominations",
    "ops_problem",
    "phrase",
    "request_id",
    "request_up",
    "response_down",
    "touched",
    "trailers",
    "usual_nominations",
]
