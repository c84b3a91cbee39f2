"""The six calls of the plugin contract, answered with what a `Plugin` has collected."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
from typing import TYPE_CHECKING, Any, Final

from loomproxy.plugins.sdk import config as configuration
from loomproxy.plugins.sdk import wire
from loomproxy.plugins.sdk.about import Health, Model
from loomproxy.plugins.sdk.chat import Chunks, Joined, read_request
from loomproxy.plugins.sdk.errors import PluginError
from loomproxy.plugins.sdk.later import timeout
from loomproxy.plugins.sdk.server import Answer, Call, failure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from loomproxy.plugins.sdk.chat import Request
    from loomproxy.plugins.sdk.plugin import Plugin

DONE: Final = b"data: [DONE]\n\n"
"""What a stream ends with; one without it was cut."""


class Calls:
    """Answers calls: give `answer` to a Server."""

    def __init__(self, plugin: Plugin[Any]) -> None:
        self._plugin = plugin
        self._in_flight = 0
        self._initializing = asyncio.Lock()
        self._cleaned = False
        self._table: dict[str, tuple[str, Callable[[Call], Awaitable[Answer]]]] = {
            "/metadata": ("GET", self._metadata),
            "/initialize": ("POST", self._initialize),
            "/health": ("GET", self._health),
            "/models": ("GET", self._models),
            "/chat/completions": ("POST", self._chat),
            "/cleanup": ("POST", self._cleanup),
        }

    async def answer(self, call: Call) -> Answer:
        """Answer one call; raises PluginError, and whatever a handler raises."""
        method, answer = self._table.get(call.path, ("", None))
        if answer is None:
            paths = ", ".join(self._table)
            message = f"There is no {call.path[:200]}; a plugin answers {paths}."
            raise PluginError("invalid_request", message, status=404)
        if call.method != method:
            message = f"{call.path} takes {method}, not {call.method[:20]}."
            raise PluginError("invalid_request", message, status=405)
        return await answer(call)

    async def clean_up(self) -> None:
        """Call the plugin's cleanup hook, once for each initialisation."""
        if not self._plugin.initialized:
            return
        try:
            await self._run_hook("cleanup")
        finally:
            self._cleaned = True
            self._plugin.config = None

    async def _run_hook(self, name: str) -> Any:
        hook = self._plugin.hooks.get(name)
        return None if hook is None else await hook()

    async def _metadata(self, _call: Call) -> Answer:
        return Answer(body=wire.dump(self._plugin.metadata))

    async def _initialize(self, call: Call) -> Answer:
        plugin = self._plugin
        config = configuration.configure(plugin.config_class, _json(call))
        async with self._initializing:
            before = plugin.config if plugin.initialized else None
            plugin.config = config
            try:
                await self._run_hook("initialize")
            except BaseException:
                plugin.config = before
                raise
        self._cleaned = False
        return Answer()

    async def _cleanup(self, _call: Call) -> Answer:
        await self.clean_up()
        return Answer()

    async def _health(self, call: Call) -> Answer:
        begun_at = time.perf_counter()
        health = await self._how_it_is(call)
        latency_ms = (time.perf_counter() - begun_at) * 1000
        body = {
            "healthy": health.healthy,
            "message": health.message or ("OK" if health.healthy else "unhealthy"),
            "latency_ms": round(latency_ms, 3),
            "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(),  # noqa: UP017 - known to older Pythons, too
            "details": dict(health.details),
        }
        return Answer(body=wire.dump(body))

    async def _how_it_is(self, call: Call) -> Health:
        if not self._plugin.initialized:
            return Health(
                healthy=False, message="cleaned up" if self._cleaned else "not initialized"
            )
        limit_s = self._plugin.bounds.health_timeout_s
        try:
            async with timeout(limit_s):
                said = await self._run_hook("health")
        except TimeoutError:
            return Health(healthy=False, message=f"the health hook timed out; it has {limit_s:g} s")
        except PluginError as error:
            return Health(healthy=False, message=str(error), details=error.details)
        except Exception:  # noqa: BLE001 - a hook that fails says that the plugin is unwell
            return Health(healthy=False, message=failure(call.request_id).message)
        return said if isinstance(said, Health) else Health(healthy=said is not False)

    async def _models(self, _call: Call) -> Answer:
        plugin = self._plugin
        models: list[Any] = list(plugin.listed.values())
        if "models" in plugin.hooks:
            self._require_initialized()
            models += await self._run_hook("models")
        infos = [
            model.as_dict(plugin.capabilities) if isinstance(model, Model) else model
            for model in models
        ]
        return Answer(body=wire.dump(infos))

    def _require_initialized(self) -> None:
        if not self._plugin.initialized:
            raise PluginError("provider_unavailable", "The plugin is not initialized.")

    async def _chat(self, call: Call) -> Answer:
        request = read_request(_json(call), call.request_id, call.fields.get("traceparent", ""))
        self._require_initialized()
        self._check_model(request.model)
        self._enter()
        pieces = self._pieces(request)
        try:
            if not request.stream:
                return await _whole(pieces)
            # The first chunk is awaited before a status is said: until then an error has its own.
            first = await pieces.__anext__()
        except BaseException:
            await pieces.aclose()
            raise
        return Answer(stream=_events(first, pieces, call.request_id))

    def _check_model(self, model: str) -> None:
        plugin = self._plugin
        if plugin.listed and model not in plugin.listed and "models" not in plugin.hooks:
            known = ", ".join(list(plugin.listed)[:20])
            raise PluginError(
                "model_not_found", f"There is no model {model[:100]!r}. There is {known}."
            )

    def _enter(self) -> None:
        bound = self._plugin.bounds.in_flight_max
        if self._in_flight >= bound:
            raise PluginError("provider_unavailable", f"{bound} requests are in flight already.")

    async def _pieces(self, request: Request) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the chunks of the handler's answer, the last ones with reason and usage."""
        handler = self._plugin.chat_handler
        if handler is None:
            raise RuntimeError("This plugin has no chat handler. Decorate one with @plugin.chat.")
        self._in_flight += 1
        try:
            chunks = Chunks(request.model)
            given = handler(request)
            if not hasattr(given, "__aiter__"):
                given = await given
            source = given if hasattr(given, "__aiter__") else _one(given)
            async with _leaving(source):
                async for piece in source:
                    for chunk in chunks.take(piece):
                        yield chunk
            for chunk in chunks.end():
                yield chunk
        finally:
            self._in_flight -= 1


@contextlib.asynccontextmanager
async def _leaving(source: Any) -> AsyncIterator[None]:
    """End a handler's iteration with the block: as cancelled, when the caller has left."""
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        if hasattr(source, "athrow"):
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await source.athrow(asyncio.CancelledError())
        raise
    finally:
        if hasattr(source, "aclose"):
            await source.aclose()


async def _one(piece: Any) -> AsyncIterator[Any]:
    yield piece


async def _whole(pieces: AsyncGenerator[dict[str, Any], None]) -> Answer:
    joined = Joined()
    async for chunk in pieces:
        joined.add(chunk)
    return Answer(body=wire.dump(joined.completion()))


async def _events(
    first: dict[str, Any], rest: AsyncGenerator[dict[str, Any], None], request_id: str
) -> AsyncGenerator[bytes, None]:
    """Yield the events of a stream: chunks, then [DONE], or else an error."""
    try:
        yield _event(first)
        async for chunk in rest:
            yield _event(chunk)
        yield DONE
    except PluginError as error:
        yield _event({"error": error.as_dict()})
    except asyncio.CancelledError as error:
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await rest.athrow(error)
        raise
    except Exception:  # noqa: BLE001 - whatever a handler raises has this one answer
        yield _event({"error": failure(request_id).as_dict()})
    finally:
        await rest.aclose()


def _event(data: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % wire.dump(data)


def _json(call: Call) -> Any:
    try:
        return wire.load(call.body)
    except wire.Malformed as error:
        raise PluginError("invalid_request", f"The body {error}.") from None
