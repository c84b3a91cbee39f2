"""What a worker knows of providers: where each answers, and which models it serves.

Plugins are the node's business. To a worker a plugin is a `Provider`: a few more endpoints in the
snapshot, with models that lead to them. One that is not ready has no enabled endpoint, and a reason
that clients may be told.
"""

import enum

import msgspec

from loomproxy.core.endpoint import EndpointSpec


class Tongue(enum.Enum):
    """What a provider's endpoints speak."""

    PLUGIN = "plugin"  # the plugin contract: PluginError, usage in each stream
    OPENAI = "openai"  # the OpenAI dialect itself: its errors, usage in a stream only when asked


class Model(msgspec.Struct, frozen=True):
    """One model. Prices are US dollars per million tokens; None: unknown."""

    id: str  # as its provider calls it
    name: str = ""
    description: str = ""
    context_window: int = 0  # tokens; 0: unknown
    max_output_tokens: int = 0
    input_cost_per_mtoken: float | None = None
    output_cost_per_mtoken: float | None = None
    capabilities: dict[str, bool] = {}
    deprecated: bool = False


class Provider(msgspec.Struct, frozen=True):
    """One provider plugin, as the node publishes it."""

    provider_type: str
    endpoints: tuple[EndpointSpec, ...] = ()  # those being replaced are not enabled
    models: tuple[Model, ...] = ()  # the first is what a request without a model gets
    reason: str = ""  # why nothing is enabled, a sentence for clients; "" when something is
    tongue: Tongue = Tongue.PLUGIN
    streaming: bool = True
    target: bytes = b"/chat/completions"  # where its endpoints answer
    connect_timeout_s: float = 3.0
    request_timeout_s: float = 300.0  # to the first byte of an answer
    idle_timeout_s: float = 60.0  # between two chunks
    published_at: int = 0  # seconds since 1970: when its models were learnt

    @property
    def pool(self) -> str:
        """The name of its pool, in the snapshot, in logs and metrics."""
        return f"plugin:{self.provider_type}"

    @property
    def ready(self) -> bool:
        """Whether anything new may be sent to it."""
        return any(endpoint.enabled for endpoint in self.endpoints)
