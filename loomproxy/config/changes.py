"""Which static keys differ between two configurations, so that a reload can name them."""

from loomproxy.config.key import Base
from loomproxy.config.model import Listener, Static
from loomproxy.config.shape import keys_of
from loomproxy.config.walk import joined


def static_changes(old: Static, new: Static) -> list[str]:
    """The paths of all keys whose values differ, in the order of the model; a restart applies them.

    Listeners are told apart by name: `listeners.public.backlog`, `listeners.private (new)`.
    """
    changes: list[str] = []
    for key in keys_of(Static):
        if key.attribute == "listeners":
            changes += _listeners(old.listeners, new.listeners)
        else:
            changes += _differing(
                getattr(old, key.attribute), getattr(new, key.attribute), key.name
            )
    return changes


def _listeners(old: tuple[Listener, ...], new: tuple[Listener, ...]) -> list[str]:
    before = {listener.name: listener for listener in old}
    after = {listener.name: listener for listener in new}
    changes: list[str] = []
    for name, listener in after.items():
        path = joined("listeners", name)
        if name in before:
            changes += _differing(before[name], listener, path)
        else:
            changes.append(f"{path} (new)")
    changes += [f"{joined('listeners', name)} (gone)" for name in before if name not in after]
    return changes


def _differing(old: object, new: object, path: str) -> list[str]:
    if old == new:
        return []
    if isinstance(old, Base) and type(old) is type(new):
        return [
            change
            for key in keys_of(type(old))
            for change in _differing(
                getattr(old, key.attribute), getattr(new, key.attribute), joined(path, key.name)
            )
        ]
    return [path]
