"""What a plugin says, without the secrets that it was given.

Its lines go to the proxy's log, and what it complains of to operators: from there to many eyes. A
plugin that prints its configuration, or quotes a provider that quotes the key, is not to tell them.
"""

from collections.abc import Iterable
from typing import Final

from loomproxy.plugins.schema import MASK
from loomproxy.plugins.wish import Wish

SECRET_CHARS_MIN: Final = 6
"""A shorter value is too likely to stand in a line by chance."""


class Mask:
    """Replaces `secrets` in a text by `***`; of one with several lines, each line."""

    def __init__(self, secrets: Iterable[str]) -> None:
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        # A secret that is part of another one comes after it.
        self._secrets = sorted(
            (line for line in lines if len(line) >= SECRET_CHARS_MIN), key=len, reverse=True
        )

    def __call__(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


def mask(wish: Wish, *tokens: str) -> Mask:
    """A mask for what a plugin was told: `sensitive` values, what references are for, `tokens`."""
    fields = wish.manifest.metadata.config_schema
    sensitive = [field.name for field in fields if field.sensitive]
    values = [value for name in sensitive if isinstance(value := wish.config.get(name), str)]
    auth = () if wish.manifest.auth is None else (wish.manifest.auth.secret,)
    return Mask([*values, *auth, *wish.found.secrets, *tokens])
