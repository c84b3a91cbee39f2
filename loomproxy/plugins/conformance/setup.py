"""Clauses of the first calls: what it says of itself, its health, configuration and models."""

from collections.abc import Mapping
from typing import Final

import msgspec

from loomproxy.config.problem import Problems
from loomproxy.plugins.conformance import shapes
from loomproxy.plugins.conformance.scene import Scene
from loomproxy.plugins.conformance.verdict import Clauses, Kind, Unjudged, Unmet
from loomproxy.plugins.conformance.wire import Answer
from loomproxy.plugins.contract import API_VERSION, ConfigField
from loomproxy.plugins.schema import check, configure
from loomproxy.plugins.wire import metadata_of

CLAUSES: Final = Clauses[Scene]()

_WRONG: Final[dict[str, object]] = {
    "string": {"not": "a text"},
    "int": "not a number",
    "float": "not a number",
    "bool": "not a truth",
}
_API_VERSION: Final = "metadata.plugin_api_version"
_SCHEMA: Final = "metadata.config_schema"
_OWN_CLAUSES: Final = (_API_VERSION, _SCHEMA)
_TRUTHS: Final = {"true": True, "false": False}


@CLAUSES.clause("metadata.valid", "GET /metadata is a Metadata object.", needs=("auth.right",))
async def _metadata(scene: Scene) -> None:
    answer = shapes.successful(await scene.ask("GET", "/metadata"), "a Metadata object")
    found = metadata_of(answer.body)
    if isinstance(found, Problems):
        scene.metadata_problems = list(found.items)
        others = [problem for problem in found.items if not problem.path.startswith(_OWN_CLAUSES)]
        if others:
            raise Unmet(seen=f"{answer}{shapes.listed(others)}", expected="a Metadata object")
        return
    fields = tuple(_without_pattern(field) for field in found.config_schema)
    scene.metadata = msgspec.structs.replace(found, config_schema=fields)
    scene.metadata_problems = check(fields, _SCHEMA)


def _without_pattern(field: ConfigField) -> ConfigField:
    """The same, but for its pattern: one that comes over the wire could keep us busy for ever."""
    if field.validation is None:
        return field
    rules = msgspec.structs.replace(field.validation, pattern=None)
    return msgspec.structs.replace(field, validation=rules)


@CLAUSES.clause(
    "metadata.matches", "It has the provider_type of its manifest.", needs=("metadata.valid",)
)
async def _matches(scene: Scene) -> None:
    manifest, metadata = scene.target.manifest, scene.metadata
    if metadata is None:
        raise Unjudged("its metadata could not be read; the clauses below say why.")
    if manifest is None:
        raise Unjudged("an address was given, no manifest.")
    if metadata.provider_type != manifest.metadata.provider_type:
        raise Unmet(
            seen=f"{metadata.provider_type!r}, and {manifest.metadata.provider_type!r} in the "
            "manifest",
            expected="the same in both",
            do="Read it from the manifest, or change one of the two.",
        )


@CLAUSES.clause(
    "metadata.api-version",
    "It keeps the major version of this contract.",
    needs=("metadata.valid",),
)
async def _api_version(scene: Scene) -> None:
    _no_problem(scene, _API_VERSION, f"major number {API_VERSION.partition('.')[0]}")


@CLAUSES.clause(
    "metadata.schema", "Its config_schema can be kept by somebody.", needs=("metadata.valid",)
)
async def _schema(scene: Scene) -> None:
    _no_problem(scene, _SCHEMA, "fields that agree with themselves, each name once")


def _no_problem(scene: Scene, path: str, expected: str) -> None:
    found = [problem for problem in scene.metadata_problems if problem.path.startswith(path)]
    if found:
        raise Unmet(seen=shapes.listed(found), expected=expected)


@CLAUSES.clause(
    "health.before-initialize",
    "GET /health answers 200 before it was initialised, healthy or not.",
    needs=("auth.right",),
)
async def _health_before(scene: Scene) -> None:
    shapes.health(await scene.ask("GET", "/health"))


@CLAUSES.clause(
    "chat.before-initialize",
    "A chat before it was initialised is an error, not a crash.",
    needs=("metadata.valid",),
)
async def _chat_before(scene: Scene) -> None:
    if scene.target.kind is Kind.REMOTE:
        raise Unjudged("it runs already, and may be initialised.")
    if not any(field.required for field in scene.schema):
        raise Unjudged("its config_schema requires nothing, so that it may serve at once.")
    question = {"model": "any", "messages": [{"role": "user", "content": "Hello."}]}
    answer = await scene.ask("POST", "/chat/completions", question)
    if not answer.status or answer.ok or answer.trouble:
        raise Unmet(
            seen=answer,
            expected="an error, as 503 with provider_unavailable",
            do="Refuse work until POST /initialize has brought what is required.",
        )


@CLAUSES.clause(
    "initialize.missing-required",
    "A configuration without a required key is refused.",
    needs=("metadata.valid",),
)
async def _missing(scene: Scene) -> None:
    required = [field.name for field in scene.schema if field.required]
    if not required:
        raise Unjudged("its config_schema requires nothing.")
    config = {name: value for name, value in _given(scene).items() if name != required[0]}
    answer = await scene.ask("POST", "/initialize", config)
    _is_invalid(answer, f"without {required[0]!r}")


@CLAUSES.clause(
    "initialize.wrong-type",
    "A configuration with a value of the wrong type is refused.",
    needs=("metadata.valid",),
)
async def _wrong_type(scene: Scene) -> None:
    fields = sorted(scene.schema, key=lambda field: field.type == "string")
    if not fields:
        raise Unjudged("its config_schema has no fields.")
    wrong = _WRONG[fields[0].type]
    answer = await scene.ask("POST", "/initialize", {**_given(scene), fields[0].name: wrong})
    _is_invalid(answer, f"with {fields[0].name!r} = {wrong!r}, which is no {fields[0].type}")


def _is_invalid(answer: Answer, what: str) -> None:
    error = answer.error()
    fine = 400 <= answer.status < 500  # noqa: PLR2004 - the class of the caller's mistakes
    if not fine or (error is not None and error.code != "invalid_request"):
        raise Unmet(
            seen=f"{what}: {answer}",
            expected="400 with the code invalid_request, and a message that names the key",
            do="Check the configuration in /initialize by the same schema that /metadata shows.",
        )


@CLAUSES.clause(
    "initialize.ok", "A right configuration is taken with 2xx.", needs=("metadata.valid",)
)
async def _initialize(scene: Scene) -> None:
    config = configure(scene.schema, _given(scene), "config")
    if isinstance(config, Problems):
        raise Unmet(
            seen=shapes.listed(config),
            expected="the configuration that its config_schema asks for",
            do="Give it with --config KEY=VALUE or --config-file FILE; a test account will do.",
        )
    answer = await scene.ask("POST", "/initialize", config)
    if not answer.ok:
        raise Unmet(seen=answer, expected="2xx with {}")


def _given(scene: Scene) -> Mapping[str, object]:
    """The configuration that was given, words of the command line in the schema's types."""
    fields = {field.name: field for field in scene.schema}
    words = {name: _typed(fields.get(name), text) for name, text in scene.target.words.items()}
    return {**scene.target.config, **words}


def _typed(field: ConfigField | None, text: str) -> object:
    """A word as its field has it; as it is where that cannot be, so that the schema complains."""
    if field is None or field.type == "string":
        return text
    if field.type == "bool":
        return _TRUTHS.get(text.lower(), text)
    try:
        return int(text) if field.type == "int" else float(text)
    except ValueError:
        return text


@CLAUSES.clause(
    "health.after-initialize", "Then GET /health says how it is.", needs=("initialize.ok",)
)
async def _health_after(scene: Scene) -> None:
    found = shapes.health(await scene.ask("GET", "/health"))
    if not found.healthy:
        raise Unmet(
            seen=f"healthy: false ({found.message or 'without a message'})",
            expected="healthy: true",
            do="The proxy gives traffic to healthy plugins only. Is what it needs there?",
        )


@CLAUSES.clause(
    "models.array", "GET /models is a bare array of ModelInfo.", needs=("initialize.ok",)
)
async def _models(scene: Scene) -> None:
    manifest = scene.target.manifest
    if manifest is not None and manifest.models is not None:
        raise Unjudged("its manifest lists the models, so GET /models is not asked.")
    scene.models = shapes.models(await scene.ask("GET", "/models"))
