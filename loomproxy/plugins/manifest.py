"""What a folder says of its plugin: `plugin.yaml`, `plugin.yml` or `plugin.json`, every key.

The structs are read as those of the configuration are: by the same walk, with every problem at
once, unknown keys refused, and `${…}` resolved. What needs two keys is `_check`'s to say.
"""

import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
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
from loomproxy.config.kinds import KINDS
from loomproxy.config.load import read_text, sources
from loomproxy.config.problem import Problem, Problems
from loomproxy.config.shape import Key, keys_of
from loomproxy.config.text import Tree, UnreadableError, tree_of
from loomproxy.config.walk import PROBLEMS_MAX, Walk, joined, shown
from loomproxy.plugins import schema
from loomproxy.plugins.contract import Metadata, ModelInfo
from loomproxy.plugins.wire import MODELS_MAX, check_metadata, check_models

NAMES: Final = ("plugin.json", "plugin.yaml", "plugin.yml")
"""What a manifest is called; nothing else is looked at."""

BYTES_MAX: Final = 1 << 20
"""Of a manifest; one with a thousand models takes a quarter of it."""

OURS: Final = "LOOM_PLUGIN_"
"""What the variables begin with that the proxy sets itself."""


class Limits(Base, frozen=True):
    """What a process may take (setrlimit(2)); beyond it the kernel refuses, or ends the process."""

    memory_bytes: Annotated[
        int,
        size("Private memory, RLIMIT_DATA; what is merely reserved does not count.", low=8 << 20),
    ] = field(default=2 << 30, name="memory")
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

    header: Annotated[
        str, text("The field.", "header_change", advice="Take a field that is the provider's own.")
    ] = "Authorization"
    scheme: Annotated[
        str | None,
        text(
            "The word before the secret. Absent: `Bearer` in Authorization, none in other fields.",
            "optional_token",
        ),
    ] = None
    secret: Annotated[
        str,
        text(
            "The secret: `${OPENAI_API_KEY}`. Empty, as `${OPENAI_API_KEY:-}` may be: nothing is "
            "shown.",
            "header_value",
        ),
    ] = ""

    @property
    def field(self) -> tuple[bytes, bytes] | None:
        """The field that is shown; None: there is no secret."""
        if not self.secret:
            return None
        scheme = self.scheme
        if scheme is None:
            scheme = "Bearer" if self.header.lower() == "authorization" else ""
        return self.header.encode(), f"{scheme} {self.secret}".lstrip().encode()


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
            "`http://host:port/base`, `https://host/base` or `unix:/path`.",
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
        group("What it serves; absent: GET /models is asked. Text is short for `id:`."),
    ] = None

    @property
    def kind(self) -> Literal["process", "remote", "builtin"]:
        """Who answers: a process of ours, a plugin elsewhere, or the upstream itself."""
        if self.type == "builtin":
            return "builtin"
        return "remote" if self.endpoint else "process"


class Found(msgspec.Struct, frozen=True):
    """A plugin that was found, and whose manifest is good. Both paths are absolute."""

    path: Path  # of the manifest
    directory: Path  # of the plugin, without symbolic links; where its process runs
    manifest: Manifest
    secrets: frozenset[str] = frozenset()  # what its references stand for


def read(path: Path, environ: Mapping[str, str]) -> Found | Problems:
    """The plugin whose manifest is the file at `path`; or everything that is wrong with it.

    `environ` is where `${NAME}` is looked up; `${file:…}` is looked up beside the manifest. A
    symbolic link to a file is followed, for Kubernetes mounts all files as such.
    """
    try:
        # Path.resolve meets a link to itself with another exception in each Python.
        directory = Path(os.path.realpath(path.parent, strict=True))
        text = read_text(str(path), BYTES_MAX)
    except OSError as error:
        seen = f"it cannot be read ({error.strerror})"
        return _one(path.name, seen, "a readable file", "Check its mode.")
    except ValueError as error:
        return _one(path.name, f"it {error}", "a file of UTF-8 text", "Mend or remove it.")
    problems: list[Problem] = []
    try:
        tree = tree_of(text, path.name, problems, keys=("metadata", "type", "command"))
    except UnreadableError as error:
        return Problems((*problems, error.problem))
    references = sources(str(path), environ)
    walk = Walk(references)
    walk.refuse_unknown(tree, list(keys_of(Manifest)), "")
    manifest = walk.struct(Manifest, tree)
    problems += walk.problems
    problems += _check(manifest, tree, walk.problems)
    if problems:
        return Problems(tuple(problems[:PROBLEMS_MAX]))
    return Found(directory / path.name, directory, manifest, frozenset(references.found))


def claimed(path: Path) -> str:
    """The provider_type that a manifest names, however wrong it is otherwise; "" for none.

    References are not resolved for it.
    """
    try:
        tree = tree_of(read_text(str(path), BYTES_MAX), path.name, [])
        metadata = tree.get("metadata")
        named = metadata.get("provider_type") if isinstance(metadata, dict) else None
        return KINDS["provider_type"].read(named) if isinstance(named, str) else ""
    except (OSError, ValueError):
        return ""


def _one(path: str, seen: str, expected: str, do: str) -> Problems:
    return Problems((Problem(path, seen, expected, do),))


def _told(problem: Problem, told: list[Problem]) -> bool:
    """Whether a complaint may be about a blank, put where something could not be read.

    It may when something was told of the same place, of what holds it, or of the same item of a
    list.
    """
    item = problem.path[: problem.path.find("]") + 1] or problem.path
    return any(_is_within(other.path, item) or _is_within(item, other.path) for other in told)


def _is_within(path: str, outer: str) -> bool:
    return path == outer or path.startswith((f"{outer}.", f"{outer}["))


def _check(manifest: Manifest, tree: Tree, told: list[Problem]) -> list[Problem]:
    """What is wrong between keys; `tree` says which were written, `told` what was wrong in them."""
    problems = check_metadata(manifest.metadata, "metadata")
    problems += schema.check(manifest.metadata.config_schema, "metadata.config_schema")
    if not {problem.path for problem in told} & {"type", "command", "endpoint"}:
        problems += _check_type(manifest)
        problems += _check_meaning(manifest, tree)
    problems += _check_command(manifest)
    problems += _check_models(manifest)
    return [problem for problem in problems if not _told(problem, told)]


def _check_type(manifest: Manifest) -> list[Problem]:
    command, endpoint = manifest.command, manifest.endpoint
    if manifest.type == "grpc":
        seen = "grpc is in the contract, but no proxy speaks it yet"
        do = "Let the plugin answer HTTP; the six calls are the same."
        return [Problem("type", seen, "http or builtin", do)]
    if manifest.type == "builtin":
        if endpoint:
            return []
        do = "Write where the upstream is, as in `endpoint: http://127.0.0.1:11434/v1`."
        return [Problem("endpoint", "it is missing", "a URL, as `type: builtin` needs", do)]
    if bool(command) is not bool(endpoint):
        return []
    if command:
        do = "Keep `command` for a process of ours, `endpoint` for one that somebody else runs."
        return [Problem("endpoint", "it stands beside `command`", "one of the two", do)]
    do = "Write the program to run, or the `endpoint` of a plugin that somebody else runs."
    return [Problem("command", "it is missing", "`command` or `endpoint`", do)]


_OF_PROCESS: Final = ("process",)
_MEANING: Final = {
    "command": _OF_PROCESS,
    "args": _OF_PROCESS,
    "env": _OF_PROCESS,
    "user": _OF_PROCESS,
    "transport": _OF_PROCESS,
    "limits": _OF_PROCESS,
    "replicas": _OF_PROCESS,
    "stop_timeout": _OF_PROCESS,
    "auth": ("remote", "builtin"),
    "path_map": ("builtin",),
}
"""Of whom a key says something; one that is not here says something of all."""

_KINDS: Final = {
    "process": "a plugin with a `command`",
    "remote": "a plugin with an `endpoint`",
    "builtin": "`type: builtin`",
}


def _check_meaning(manifest: Manifest, tree: Tree) -> list[Problem]:
    """Keys that were written and would do nothing."""
    if manifest.type == "grpc" or (manifest.kind == "remote" and manifest.command):
        return []  # Told already, and nobody knows which of the keys were meant.
    return [
        _meaningless(key, manifest.kind)
        for key in keys_of(Manifest)
        if manifest.kind not in _MEANING.get(key.name, _KINDS)
        and tree.get(key.name) is not None
        and getattr(manifest, key.attribute) != key.default
    ]


def _meaningless(key: Key, kind: str) -> Problem:
    where = " or ".join(_KINDS[kind] for kind in _MEANING[key.name])
    return Problem(
        key.name, f"it says nothing about {_KINDS[kind]}", f"it with {where}", "Take it out."
    )


def _check_command(manifest: Manifest) -> list[Problem]:
    command, problems = manifest.command, []
    if "/" in command and not command.startswith("/"):
        if posixpath.normpath(command).split("/")[0] == "..":
            seen = f"{shown(command)} leads out of the plugin's folder"
            do = "Move the program into the folder, or write the whole path."
            expected = "a path below the folder, an absolute one, or a name on PATH"
            problems.append(Problem("command", seen, expected, do))
    elif " " in command and not command.startswith("/"):
        seen = f"{shown(command)} holds a space, and no shell parts it there"
        do = f"Write `command: {command.split()[0]}`, and the rest as `args`."
        problems.append(Problem("command", seen, "the name of a program alone", do))
    for name in manifest.env:
        if name.startswith(OURS):
            seen, expected = "the proxy sets it itself", f"a name that does not begin with {OURS}"
            problems.append(Problem(joined("env", name), seen, expected, "Take it out."))
    return problems


def _check_models(manifest: Manifest) -> list[Problem]:
    models = manifest.models
    if models is None:
        return []
    if not 0 < len(models) <= MODELS_MAX:
        seen, expected = f"it has {len(models)} models", f"1 to {MODELS_MAX} models"
        return [Problem("models", seen, expected, "Take `models` out to ask GET /models.")]
    return check_models(models, "models")
