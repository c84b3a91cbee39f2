"""What goes wrong, in the words of the plugin contract: one exception, nine codes.

Nothing else of the SDK invents a status or a body for a failure: what a handler raises, what an
upstream answered and what the server refuses all become a `PluginError` and leave through it.
"""

from __future__ import annotations

from typing import Any, Final

STATUSES: Final[dict[str, int]] = {
    "invalid_request": 400,
    "content_filter": 400,
    "authentication_failed": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "quota_exceeded": 429,
    "internal_error": 500,
    "provider_unavailable": 503,
    "timeout": 504,
}
"""Every code of the contract, and the status with which a plugin answers it."""

_TRANSIENT: Final = frozenset(("rate_limit_exceeded", "provider_unavailable", "timeout"))


class PluginError(Exception):
    """Raise it in a handler, and the proxy is told exactly this.

    `transient`: the same request may succeed a moment later; by default true for
    `rate_limit_exceeded`, `provider_unavailable` and `timeout`. `retry_after`: in seconds; clients
    are told. `details` are for people and machines; put no secret there. `status`: only when the
    code's own does not fit.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        transient: bool | None = None,
        retry_after: float | None = None,
        details: dict[str, Any] | None = None,
        status: int | None = None,
    ) -> None:
        if code not in STATUSES:
            raise ValueError(f"PluginError: there is no code {code!r}. Use {', '.join(STATUSES)}.")
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.transient = code in _TRANSIENT if transient is None else transient
        self.details = dict(details or {})
        if retry_after is not None:
            self.details["retry_after"] = retry_after
        self.status = STATUSES[code] if status is None else status

    def __str__(self) -> str:
        """In a line, for logs."""
        return f"{self.code}: {self.message}"

    def as_dict(self) -> dict[str, Any]:
        """Return the body that the contract asks for."""
        body: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "transient": self.transient,
        }
        if self.details:
            body["details"] = self.details
        return body
