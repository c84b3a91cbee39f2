"""From files and configuration to wishes: who should run, who is gone, and who stays as it was."""

from pathlib import Path
from typing import Any

import pytest

from loomproxy.config.plugins import Desired, Plugins
from loomproxy.plugins.look import NOTHING, look, problems, wishes
from tests.plugins.garden import Garden


@pytest.fixture
def garden(tmp_path: Path) -> Garden:
    return Garden(tmp_path)


def seen(garden: Garden, before: Any = NOTHING, touched: frozenset[Path] | None = None) -> Any:
    return look(garden.directory, {}, before, touched)


def test_wish_says_what_manifest_files_and_section_say(garden: Garden) -> None:
    schema = [{"name": "key", "type": "string", "required": True}]
    folder = garden.plant("acme", metadata={"config_schema": schema}, health_check_interval=None)
    garden.plant("idle", auto_start=False)
    (garden.plant("off") / "disabled").touch()
    section = Plugins(health_check_interval_s=7.0, config={"acme": {"key": "k"}})
    made = wishes(seen(garden), section, {})
    acme = made["acme"]
    assert (acme.found.directory, acme.config, acme.interval_s) == (folder, {"key": "k"}, 7.0)
    assert (acme.auto, acme.disabled, acme.gone, acme.problems) == (True, False, False, ())
    assert made["idle"].auto is False
    assert made["idle"].interval_s == 0.1
    assert made["off"].disabled
    assert not any(
        wish.auto for wish in wishes(seen(garden), Plugins(auto_start=False), {}).values()
    )
    (problem,) = wishes(seen(garden), Plugins(), {})["acme"].problems
    assert problem.startswith("plugins.config.acme.key")
    assert problems(seen(garden), Plugins()) == (problem,)
    assert problems(seen(garden), section) == ()


def test_what_is_desired_says_whether_which_version_and_with_what(garden: Garden) -> None:
    schema = [{"name": "key", "type": "string", "required": True}]
    garden.plant("acme", metadata={"config_schema": schema})
    version = seen(garden).discovery.found["acme"].manifest.metadata.version

    def wish(**desired: Any) -> Any:
        section = Plugins(
            config={"acme": {"key": "own"}, "acme-eu": {"key": "eu"}},
            desired={"acme": Desired(**desired)},
        )
        assert problems(seen(garden), section) == (), "a version is no matter of the configuration"
        return wishes(seen(garden), section, {})["acme"]

    assert wish().config == {"key": "own"}
    assert wish(config="acme-eu").config == {"key": "eu"}
    assert (wish().disabled, wish(enabled=False).disabled) == (False, True)
    assert wish(version=version).problems == ()
    (problem,) = wish(version="9.9.9").problems
    assert problem.startswith("plugins.desired.acme.version: 9.9.9 is wanted")
    assert version in problem


def test_what_is_disabled_here_is_not_enabled_from_afar(garden: Garden) -> None:
    (garden.plant("acme") / "disabled").touch()
    section = Plugins(desired={"acme": Desired(enabled=True)})
    assert wishes(seen(garden), section, {})["acme"].disabled


def test_only_what_was_touched_is_read_anew(garden: Garden) -> None:
    acme, beta = garden.plant("acme"), garden.plant("beta")
    first = seen(garden)
    garden.code("acme", {"version": "2.0.0", "model": "two"})
    garden.code("beta", {"version": "2.0.0", "model": "two"})
    second = seen(garden, first, frozenset({acme / "plugin.py"}))
    assert second.digests["acme"] != first.digests["acme"]
    assert second.digests["beta"] == first.digests["beta"]
    assert seen(garden, second).digests["beta"] != first.digests["beta"]
    moved = beta.rename(garden.directory / "moved")
    assert seen(garden, second, frozenset({moved})).discovery.found["beta"].directory == moved


def test_plugin_whose_manifest_broke_is_not_gone_and_one_with_another_name_is(
    garden: Garden,
) -> None:
    folder = garden.plant("acme")
    before = wishes(seen(garden), Plugins(), {})
    (folder / "plugin.json").write_text("{")
    broken = wishes(seen(garden), Plugins(), before)["acme"]
    assert not broken.gone
    assert "plugin.json" in broken.problems[0]
    garden.plant("acme", metadata={"provider_type": "beta"})
    renamed = wishes(seen(garden), Plugins(), before)
    assert (renamed["acme"].gone, renamed["beta"].gone) == (True, False)
    assert wishes(look(None, {}, NOTHING, None), Plugins(), before)["acme"].gone
    assert wishes(look(folder / "none", {}, NOTHING, None), Plugins(), before)["acme"].gone


def test_copy_beside_a_plugin_is_refused_and_harms_it_not(garden: Garden) -> None:
    garden.plant("acme")
    before = wishes(seen(garden), Plugins(), {})
    garden.plant("copy", metadata={"provider_type": "acme"})
    after = wishes(seen(garden), Plugins(), before)
    assert after == before


def test_directory_that_cannot_be_looked_at_is_told_of_and_its_plugins_are_not_gone(
    garden: Garden, tmp_path: Path
) -> None:
    garden.plant("acme")
    before = wishes(seen(garden), Plugins(), {})
    # A name that no file system takes stands for whatever stands against it: a closed folder, say.
    here = tmp_path / ("x" * 300)
    looked = look(here, {}, NOTHING, None)
    assert "it cannot be read (File name too long)" in str(looked.discovery.refused[str(here)])
    assert look(tmp_path / "none", {}, NOTHING, None) == NOTHING
    garden.directory.rename(tmp_path / "away")
    garden.directory.symlink_to(garden.directory)
    (wish,) = wishes(seen(garden), Plugins(), before).values()
    assert not wish.gone
    assert "cannot be read" in wish.problems[0]
