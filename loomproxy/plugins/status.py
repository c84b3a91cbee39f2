"""What is told of plugins to operators: on the command line, over the API, in health and metrics.

Plain values, made anew for each question: a snapshot that nobody changes.
"""

import enum

import msgspec


class State(enum.Enum):
    """Where in its life a plugin, one of its generations, or one of their replicas is."""

    DISABLED = "disabled"  # an operator does not want it
    STOPPED = "stopped"  # nobody started it
    STARTING = "starting"  # it runs, and has not said all that is needed to serve
    READY = "ready"
    UNHEALTHY = "unhealthy"  # it runs, and says or shows that it is not well
    DRAINING = "draining"  # it gets nothing new, and finishes what it has
    BACKOFF = "backoff"  # it left; another is started after a wait
    FAILED = "failed"  # it left too often, or cannot be run: an operator or a change is waited for
    INVALID = "invalid"  # its manifest or its configuration is wrong


class ReplicaStatus(msgspec.Struct, frozen=True):
    """One process of a generation; of a remote plugin the one place where it is."""

    number: int
    state: State
    address: str
    pid: int = 0  # 0: there is none
    starts: int = 0
    in_flight: int = 0  # exchanges, over all workers
    rss_bytes: int = 0
    cpu_s: float = 0.0
    message: str = ""  # of its last health answer
    last_exit: str = ""  # how it left the last time


class GenerationStatus(msgspec.Struct, frozen=True):
    """One run of a plugin's version; while one replaces another there are two."""

    number: int  # grows with each reload, from 1
    version: str
    state: State
    replicas: tuple[ReplicaStatus, ...] = ()


class PluginStatus(msgspec.Struct, frozen=True):
    """One plugin."""

    provider_type: str
    name: str
    version: str
    state: State
    manifest: str  # the file
    kind: str = "process"  # or remote, or builtin
    required: bool = False
    models: tuple[str, ...] = ()
    generations: tuple[GenerationStatus, ...] = ()  # the serving one first
    restarts: int = 0  # after crashes, since the node began
    reloads: int = 0  # that succeeded
    reloads_failed: int = 0
    last_error: str = ""  # why it is not serving, or why the last reload was refused, or waits
    reason: str = ""  # what clients are told while it does not serve
    config: dict[str, object] = {}  # with secrets masked


class Report(msgspec.Struct, frozen=True):
    """What became of an operator's command."""

    ok: bool
    state: State
    problems: tuple[str, ...] = ()  # why it was not done; none when it was


class LogLine(msgspec.Struct, frozen=True):
    """A line that a plugin said."""

    number: int  # grows by one with each line of this plugin
    generation: int
    replica: int
    stream: str  # stdout or stderr
    text: str
