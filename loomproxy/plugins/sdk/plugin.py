"""What a plugin's author writes with: the `Plugin`, what it says of itself, and its handlers.

This module collects; `calls` answers with what was collected, `run` gives it a process.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypedDict, TypeVar, Union, cast

from loomproxy.plugins.sdk import config as configuration
from loomproxy.plugins.sdk.about import Model, ModelWords, capabilities_of
from loomproxy.plugins.sdk.chat import Piece, Request
from loomproxy.plugins.sdk.server import Bounds

if TYPE_CHECKING:
    from typing import Unpack

    from loomproxy.plugins.sdk.run import Running

API_VERSION: Final = "1.0.0"
"""Of the plugin contract that this SDK keeps."""

_PROVIDER_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

_BOUNDS: Final = Bounds()
_NO_CONFIG: Final = cast("Any", configuration.NoConfig)

ConfigT = TypeVar("ConfigT")
Handled = Union[  # noqa: UP007 - Python 3.9 knows no `|` here
    Awaitable[Union[Piece, AsyncIterator[Piece]]],  # noqa: UP007 - as above
    AsyncIterator[Piece],
]
ChatT = TypeVar("ChatT", bound="Callable[[Request], Handled]")
HookT = TypeVar("HookT", bound="Callable[[], Awaitable[Any]]")


class About(TypedDict, total=False):
    """What else a plugin says of itself."""

    name: str
    description: str
    author: str
    homepage: str
    license: str
    capabilities: Sequence[str]  # "function_calling", "vision", …, or words of your own


class Plugin(Generic[ConfigT]):
    """One provider plugin: make it, give it a `chat` handler, `run` it.

    `config` is a dataclass whose fields the proxy's configuration fills, see `option` and `secret`;
    its instance is `plugin.config`, once the proxy has delivered it.
    """

    def __init__(
        self,
        provider_type: str,
        *,
        version: str,
        config: type[ConfigT] = _NO_CONFIG,
        bounds: Bounds = _BOUNDS,
        **about: Unpack[About],
    ) -> None:
        if not _PROVIDER_TYPE.fullmatch(provider_type):
            raise ValueError(
                f"Plugin({provider_type!r}): a provider_type has lower-case letters, digits and "
                "dashes, at most 63, a letter or digit first."
            )
        self.provider_type = provider_type
        self.version = version
        self.about = about
        self.bounds = bounds
        self.capabilities = tuple(about.get("capabilities", ()))
        self.config_class = config
        self.config_schema = configuration.schema_of(config)
        self.listed: dict[str, Model] = {}
        self.hooks: dict[str, Callable[[], Awaitable[Any]]] = {}
        self.chat_handler: Callable[[Request], Any] | None = None
        self._config: ConfigT | None = None

    @property
    def config(self) -> ConfigT:
        """The configuration that the proxy has delivered; RuntimeError before."""
        if self._config is None:
            raise RuntimeError("plugin.config: the proxy has not initialised this plugin yet.")
        return self._config

    @config.setter
    def config(self, config: ConfigT | None) -> None:
        self._config = config

    @property
    def initialized(self) -> bool:
        """Whether there is a configuration, so that the plugin may serve."""
        return self._config is not None

    @property
    def metadata(self) -> dict[str, Any]:
        """What GET /metadata answers."""
        about = {key: value for key, value in self.about.items() if key != "capabilities"}
        return {
            "name": self.provider_type,
            **about,
            "version": self.version,
            "plugin_api_version": API_VERSION,
            "provider_type": self.provider_type,
            "capabilities": capabilities_of(self.capabilities),
            "config_schema": self.config_schema,
        }

    def model(self, id: str, **words: Unpack[ModelWords]) -> Model:  # noqa: A002 - the contract's word
        """Say that this plugin serves a model. The first is what a request without a model gets.

        A request for a model that was not named is answered `model_not_found`, unless none was
        named at all, or a `models` hook lists them.
        """
        self.listed[id] = Model(id, **words)
        return self.listed[id]

    def chat(self, handler: ChatT) -> ChatT:
        """Decorate the function that answers.

        Either `async def` returning text, a `Reply` or a whole completion, or one that yields text,
        `Delta`s and `Usage`. Raise `PluginError` for what goes wrong. It is cancelled when the
        client leaves.
        """
        if not inspect.iscoroutinefunction(handler) and not inspect.isasyncgenfunction(handler):
            raise TypeError(
                f"@plugin.chat {_name(handler)}: is no `async def`. What blocks can be called with "
                "`await asyncio.to_thread(function, …)`."
            )
        self.chat_handler = handler
        return handler

    def initialize(self, hook: HookT) -> HookT:
        """Decorate what is done with a new `plugin.config`, before the first request.

        A PluginError from it refuses the configuration, and the one before stays.
        """
        return self._hook("initialize", hook)

    def health(self, hook: HookT) -> HookT:
        """Decorate what says how the plugin is: None or True, False, or a `Health`.

        What it raises means unhealthy, too. Without it an initialised plugin is healthy.
        """
        return self._hook("health", hook)

    def models(self, hook: HookT) -> HookT:
        """Decorate what lists the models, when only the provider knows: an iterable of `Model`."""
        return self._hook("models", hook)

    def cleanup(self, hook: HookT) -> HookT:
        """Decorate what is done before the plugin ends."""
        return self._hook("cleanup", hook)

    def _hook(self, name: str, hook: HookT) -> HookT:
        function: object = hook
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"@plugin.{name} {_name(hook)}: is no `async def`.")
        self.hooks[name] = hook
        return hook

    def run(self, argv: list[str] | None = None) -> None:
        """Serve until SIGTERM, where the proxy has said; by hand, explain. Ends the program."""
        from loomproxy.plugins.sdk.run import main  # noqa: PLC0415 - who imports need not run

        main(self, argv)

    @contextlib.asynccontextmanager
    async def serving(self, address: str, token: str) -> AsyncIterator[Running]:
        """Serve within a block, for tests: at `unix:/path` or `host:port`, port 0 for any."""
        from loomproxy.plugins.sdk.run import Running  # noqa: PLC0415 - as above: only to serve

        running = await Running.start(self, address, token)
        try:
            yield running
        finally:
            await running.stop()


def _name(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))
