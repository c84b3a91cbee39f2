"""What a folder says of its plugin: `plugin.yaml`, `plugin.yml` or `plugin.json`, every key.

The structs are read as those of the configuration are: by the same walk, with every problem at
once, unknown keys refused, and `${…}` resolved. What needs two keys is `check`'s to say.
"""

from typing import Annotated, Literal

from msgspec import field

from loomproxy.config.key import (
    DAY_S,
    HOUR_S,
    Base,
    UrlPath,
    count,
    duration,
    group,
    size,
    text,
)
from loomproxy.plugins.contract import Metadata, ModelInfo


class Limits(Base, frozen=True):
    """What a process may take (setrlimit(2)); beyond it the kernel refuses, or ends the process."""

    memory_bytes: Annotated[
        int,
        size("Private memory, RLIMIT_DATA; what is merely reserved does not count.", low=8 << 20),
    ] = 2 << 30
    open_files: Annotated[int, count("Descriptors, RLIMIT_NOFILE.", low=16, high=1 << 20)] = 4096
    cpu_seconds: Annotated[
        int, count("CPU time of one life, RLIMIT_CPU; the default is a year.", low=1)
    ] = 31_536_000
    processes: Annotated[
        int,
        count(
            "Processes and threads of its *user*, whoever started them, RLIMIT_NPROC; root is not "
            "bound by it.",
            high=1 << 22,
        ),
    ] = 4096


class Auth(Base, frozen=True):
    """What a builtin provider, or a remote plugin, is shown with each request."""

    header: Annotated[str, text("The field.", "header_name")] = "Authorization"
    value: Annotated[str, text("What it holds: `Bearer ${OPENAI_API_KEY}`.", "header_value")] = ""


class PathMap(Base, frozen=True):
    """Where a builtin provider answers, below its `endpoint`."""

    chat_completions: Annotated[UrlPath, text("For chat completions.", "url_path")] = (
        "/chat/completions"
    )
    models: Annotated[
        UrlPath, text("For the list of models, when `models` is absent.", "url_path")
    ] = "/models"


class Manifest(Base, frozen=True):
    """One plugin, as its folder describes it."""

    metadata: Annotated[Metadata, group("What the plugin is.")]
    type: Annotated[
        Literal["http", "builtin", "grpc"],
        group(
            "`http`: a process that we supervise, or a remote `endpoint`. `builtin`: no process, "
            "an upstream that speaks the OpenAI dialect itself. `grpc`: not yet."
        ),
    ] = "http"
    command: Annotated[
        str,
        text(
            "The program to run, without a shell, in the manifest's folder: a path (relative to "
            "the folder, when it has a slash) or a name on PATH."
        ),
    ] = ""
    args: Annotated[tuple[Annotated[str, text(kind="argument")], ...], group("Its arguments.")] = ()
    env: Annotated[
        dict[Annotated[str, text(kind="variable")], Annotated[str, text(kind="argument")]],
        group(
            "Variables on top of PATH, HOME, LANG, TZ and LOOM_PLUGIN_…; nothing else is inherited."
        ),
    ] = field(default_factory=dict)
    user: Annotated[
        str, text("Run it as this user; only root can. Empty: as the proxy runs.", "optional_name")
    ] = ""
    endpoint: Annotated[
        str,
        text(
            "Instead of `command`: where somebody else runs it, or where a builtin provider is: "
            "`http://host:port/base` or `unix:/path`.",
            "optional_base_url",
        ),
    ] = ""
    auth: Annotated[Auth | None, group("What an `endpoint` is shown with each request.")] = None
    path_map: Annotated[PathMap, group("Where a builtin provider answers.")] = PathMap()
    transport: Annotated[
        Literal["unix", "tcp"],
        group(
            "How a `command` is told where to listen: LOOM_PLUGIN_SOCKET, or LOOM_PLUGIN_HOST and "
            "LOOM_PLUGIN_PORT."
        ),
    ] = "unix"
    auto_start: Annotated[bool, group("Start it by itself; else by command only.")] = True
    health_check_interval_s: Annotated[
        float | None,
        duration("How often it is probed. Absent: as `plugins` says.", low=0.1, high=DAY_S),
    ] = None
    startup_timeout_s: Annotated[
        float, duration("From its start to READY; then it is ended.", high=HOUR_S)
    ] = 30.0
    request_timeout_s: Annotated[
        float, duration("To the first byte of an answer; then 504.", high=DAY_S)
    ] = 300.0
    idle_timeout_s: Annotated[
        float, duration("Between two chunks of an answer; then it is cut.", high=DAY_S)
    ] = 60.0
    drain_timeout_s: Annotated[
        float,
        duration("How long exchanges may go on when a generation is replaced or stopped.", low=0.0),
    ] = 300.0
    stop_timeout_s: Annotated[
        float, duration("Between SIGTERM and SIGKILL.", low=0.0, high=HOUR_S)
    ] = 5.0
    limits: Annotated[Limits, group("What each of its processes may take.")] = Limits()
    replicas: Annotated[
        int, count("Processes of it, balanced by the least in flight.", high=64)
    ] = 1
    required: Annotated[bool, group("Without it this node is not ready.")] = False
    models: Annotated[
        tuple[Annotated[ModelInfo, group("", shorthand="id")], ...] | None,
        group("What it serves, when GET /models is not to be asked. Text is short for `id:`."),
    ] = None
