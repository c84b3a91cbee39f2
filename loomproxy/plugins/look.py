"""What files and configuration say of all plugins at one moment: a wish for each.

All that reads files is in `look`, which is for a thread; what it found becomes wishes without any.
"""

import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import structs

from loomproxy.config.plugins import Desired, Plugins
from loomproxy.config.problem import Problems
from loomproxy.plugins.digest import digest
from loomproxy.plugins.discovery import Discovery, discover
from loomproxy.plugins.manifest import Found
from loomproxy.plugins.schema import configure
from loomproxy.plugins.wish import Wish


class Look(msgspec.Struct, frozen=True):
    """What was found, with the digest of each plugin's files by its provider_type."""

    discovery: Discovery
    digests: dict[str, str]


ANY = Desired()
"""What is wanted of a plugin that nothing is said of."""

NOTHING = Look(Discovery({}, {}, frozenset()), {})


def look(
    directory: Path | None,
    environ: Mapping[str, str],
    before: Look,
    touched: frozenset[Path] | None,
) -> Look:
    """Look at all plugins below `directory`.

    Only what lies over a `touched` path is read anew; None: everything.
    """
    if directory is None or _is_absent(directory):
        return NOTHING
    discovery = discover(directory, environ)
    digests = {}
    for name, found in discovery.found.items():
        known = before.digests.get(name)
        moved = name not in before.discovery.found or (
            before.discovery.found[name].directory != found.directory
        )
        if known is None or moved or touched is None or _within(touched, found.directory):
            known = digest(found.directory)
        digests[name] = known
    return Look(discovery, digests)


def _is_absent(directory: Path) -> bool:
    """Whether there is no such directory; one that we may not enter is there, and told of."""
    try:
        return not stat.S_ISDIR(directory.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def wishes(seen: Look, plugins: Plugins, before: Mapping[str, Wish]) -> dict[str, Wish]:
    """What should run of each plugin, those of `before` that are gone included."""
    made: dict[str, Wish] = {}
    refused = _refused(seen.discovery)
    for name, found in seen.discovery.found.items():
        wish = _wish(name, found, seen, plugins)
        made[name] = wish
    for name, wish in before.items():
        if name in made:
            continue
        why = next((refused[key] for key in (name, *_over(wish.path)) if key in refused), None)
        if why is None:
            made[name] = structs.replace(wish, gone=True)
        else:
            desired = plugins.desired.get(name, ANY)
            disabled = name in seen.discovery.disabled or not desired.enabled
            made[name] = structs.replace(
                wish, problems=_texts(why), disabled=disabled, digest="", gone=False
            )
    return made


def problems(seen: Look, plugins: Plugins) -> tuple[str, ...]:
    """What is wrong with the configuration of the plugins that there are."""
    texts: list[str] = []
    for name, found in seen.discovery.found.items():
        config = _config(name, found, plugins)
        if isinstance(config, Problems):
            texts += _texts(config)
    return tuple(texts)


def _wish(name: str, found: Found, seen: Look, plugins: Plugins) -> Wish:
    manifest = found.manifest
    config = _config(name, found, plugins)
    desired = plugins.desired.get(name, ANY)
    wrong = [*_texts(config)] if isinstance(config, Problems) else []
    wrong += _other_version(name, manifest.metadata.version, desired.version)
    interval_s = manifest.health_check_interval_s
    return Wish(
        provider_type=name,
        found=found,
        digest=seen.digests[name],
        config={} if isinstance(config, Problems) else config,
        interval_s=plugins.health_check_interval_s if interval_s is None else interval_s,
        problems=tuple(wrong),
        auto=plugins.auto_start and manifest.auto_start,
        disabled=name in seen.discovery.disabled or not desired.enabled,
    )


def _other_version(name: str, installed: str, desired: str) -> list[str]:
    if desired in ("", installed):
        return []
    told = (
        f"plugins.desired.{name}.version: {desired} is wanted, and {installed} is installed; "
        "expected them to be the same. Install the one that is wanted, or want the one that is "
        "there."
    )
    return [told]


def _config(name: str, found: Found, plugins: Plugins) -> dict[str, object] | Problems:
    schema = found.manifest.metadata.config_schema
    entry = plugins.desired.get(name, ANY).config or name
    return configure(schema, plugins.config.get(entry, {}), f"plugins.config.{entry}")


def _refused(discovery: Discovery) -> dict[str, Problems]:
    """What was refused, by the manifest's path and by the name that it claims."""
    by_name = {name: discovery.refused[path] for path, name in discovery.claims.items()}
    return {**by_name, **discovery.refused}


def _over(path: Path) -> tuple[str, ...]:
    """A manifest and the folders that it lies in: what is refused as a whole is not gone."""
    return str(path), *(str(folder) for folder in path.parents)


def _texts(problems: Problems) -> tuple[str, ...]:
    return tuple(str(problem) for problem in problems.items)


def _within(touched: frozenset[Path], directory: Path) -> bool:
    return any(path.is_relative_to(directory) for path in touched)
