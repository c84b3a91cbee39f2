"""What clients are told while a plugin does not serve: plain words, without paths and addresses."""

from typing import Final

from loomproxy.plugins.status import State

_WORDS: Final = {
    State.DISABLED: "is disabled",
    State.STOPPED: "is stopped",
    State.STARTING: "is starting",
    State.READY: "is ready",  # and about to be published
    State.UNHEALTHY: "reports that it is not healthy",
    State.DRAINING: "is being stopped",
    State.BACKOFF: "is restarting after a crash",
    State.FAILED: "failed, and waits for its operator",
    State.INVALID: "is not configured correctly",
}


def reason(provider_type: str, state: State, *, crashed: bool, remote: bool = False) -> str:
    """Why it does not serve, as a sentence; `remote`: it is no process of ours."""
    words = _WORDS[state]
    if state is State.STARTING and crashed:
        words = _WORDS[State.BACKOFF]
    if remote and words == _WORDS[State.BACKOFF]:
        words = "cannot be reached"
    return f"The plugin {provider_type} {words}."
