"""Every plugin below a directory is found, and what is wrong hides nothing else."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loomproxy.plugins import discovery
from loomproxy.plugins.discovery import DEPTH_MAX, Discovery, discover


def manifest(name: str, **more: Any) -> str:
    metadata = {
        "name": name,
        "version": "1.0.0",
        "plugin_api_version": "1.0.0",
        "provider_type": name,
    }
    return json.dumps({"metadata": metadata, "command": "./run", **more})


def put(root: Path, place: str, name: str, file: str = "plugin.json", **more: Any) -> Path:
    """A plugin in the folder `place`; its manifest."""
    folder = root / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(manifest(name, **more))  # JSON is YAML, too.
    return folder / file


def found(root: Path) -> dict[str, Path]:
    """The plugins below `root`, where nothing is wrong."""
    result = discover(root, {})
    assert result.refused == {}
    return {name: one.path for name, one in result.found.items()}


def refused(result: Discovery) -> dict[str, str]:
    return {path: str(problems) for path, problems in result.refused.items()}


# ---- What is found. ----------------------------------------------------------------------------


def test_plugins_are_found_at_any_depth_sorted_by_name(tmp_path: Path) -> None:
    beta = put(tmp_path, "a/b/c", "beta")
    acme = put(tmp_path, "z", "acme", "plugin.yaml")
    gamma = put(tmp_path, "a/b", "gamma", "plugin.yml")
    assert list(found(tmp_path).items()) == [("acme", acme), ("beta", beta), ("gamma", gamma)]


def test_the_directory_may_be_a_plugin_itself(tmp_path: Path) -> None:
    assert found(put(tmp_path, ".", "acme").parent) == {"acme": tmp_path / "plugin.json"}


def test_names_are_exact(tmp_path: Path) -> None:
    for name in ("Plugin.json", "plugin.toml", "plugin.json.bak", "my-plugin.yaml", "plugin"):
        put(tmp_path, "x", "acme", name)
    (tmp_path / "plugin.yaml").mkdir()
    assert found(tmp_path) == {}


def test_a_folder_that_is_called_like_a_manifest_is_a_folder(tmp_path: Path) -> None:
    acme = put(tmp_path, "plugin.yaml", "acme")
    assert found(tmp_path) == {"acme": acme}


@pytest.mark.parametrize("place", [".git", ".venv/lib", "a/node_modules/b", "a/__pycache__"])
def test_folders_of_other_people_are_passed_over(tmp_path: Path, place: str) -> None:
    put(tmp_path, place, "acme")
    beta = put(tmp_path, "a", "beta")
    assert found(tmp_path) == {"beta": beta}


def test_nothing_is_found_in_an_empty_directory(tmp_path: Path) -> None:
    assert discover(tmp_path, {}) == Discovery({}, {}, frozenset(), {})


def test_references_of_manifests_are_resolved(tmp_path: Path) -> None:
    put(tmp_path, "a", "acme", env={"KEY": "${KEY}"})
    assert discover(tmp_path, {"KEY": "k"}).found["acme"].manifest.env == {"KEY": "k"}
    assert "KEY, which is not set" in "".join(refused(discover(tmp_path, {})).values())


# ---- Links. ------------------------------------------------------------------------------------


def test_a_linked_folder_is_followed_and_known_by_where_it_is(tmp_path: Path) -> None:
    acme = put(tmp_path / "srv", "acme-1.2", "acme")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "acme").symlink_to(acme.parent)
    result = discover(tmp_path / "plugins", {})
    assert result.found["acme"].path == acme
    assert result.found["acme"].directory == acme.parent


def test_links_that_lead_back_end_the_walk(tmp_path: Path) -> None:
    acme = put(tmp_path, "a/b", "acme")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "b" / "self").symlink_to(".")
    (tmp_path / "a" / "root").symlink_to(tmp_path)
    assert found(tmp_path) == {"acme": acme}


def test_a_folder_with_two_ways_to_it_is_one_plugin(tmp_path: Path) -> None:
    acme = put(tmp_path, "b", "acme")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "c").symlink_to("b")
    assert found(tmp_path) == {"acme": acme}


def test_links_that_lead_nowhere_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "round").symlink_to("round")
    assert found(tmp_path) == {}


def test_a_link_from_the_deepest_folder_to_the_top_is_not_too_deep(tmp_path: Path) -> None:
    deep = "/".join("d" * DEPTH_MAX)
    acme = put(tmp_path, deep, "acme")
    (tmp_path / deep / "top").symlink_to(tmp_path)
    assert found(tmp_path) == {"acme": acme}


# ---- What is wrong, and hides nothing. ---------------------------------------------------------


def test_a_bad_manifest_hides_no_other(tmp_path: Path) -> None:
    bad = put(tmp_path, "a", "bad", type="grpc")
    worse = put(tmp_path, "b", "worse")
    worse.write_text("{")
    good = put(tmp_path, "c", "good")
    pipe = tmp_path / "d" / "plugin.yaml"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    result = discover(tmp_path, {})
    assert {name: one.path for name, one in result.found.items()} == {"good": good}
    told = refused(result)
    assert set(told) == {str(bad), str(worse), str(pipe)}
    assert told[str(bad)].startswith("type: grpc")
    assert "is no regular file" in told[str(pipe)]
    assert result.claims == {str(bad): "bad"}


def test_two_manifests_in_one_folder_are_both_refused_and_named(tmp_path: Path) -> None:
    put(tmp_path, "a", "acme", "plugin.yaml")
    first = put(tmp_path, "a", "acme", "plugin.json")
    result = discover(tmp_path, {})
    assert result.found == {}
    (problem,) = result.refused[str(first)].items
    assert problem.path == str(tmp_path / "a")
    assert "plugin.json and plugin.yaml stand in one folder" in problem.seen
    assert result.claims == {str(first): "acme"}


def test_two_manifests_about_different_plugins_are_about_nobody(tmp_path: Path) -> None:
    put(tmp_path, "a", "acme", "plugin.yaml")
    put(tmp_path, "a", "beta", "plugin.yml")
    assert discover(tmp_path, {}).claims == {}


def test_of_two_folders_with_one_name_the_first_by_path_is_kept_and_both_are_named(
    tmp_path: Path,
) -> None:
    copy = put(tmp_path, "acme-copy", "acme")
    deep = put(tmp_path, "0/deep", "other")
    kept = put(tmp_path, "acme", "acme")
    third = put(tmp_path, "b/acme", "acme")
    result = discover(tmp_path, {})
    assert {name: one.path for name, one in result.found.items()} == {"acme": kept, "other": deep}
    told = refused(result)
    assert set(told) == {str(copy), str(third)}
    for path in (copy, third):
        assert told[str(path)].startswith("metadata.provider_type: acme is the provider_type of ")
        assert str(kept) in told[str(path)]
        assert str(path) in told[str(path)]
    assert result.claims == {str(copy): "acme", str(third): "acme"}


def test_a_directory_that_is_not_there_is_told_and_not_created(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    result = discover(gone, {})
    assert result.found == {}
    assert "No such file" in refused(result)[str(gone)]
    assert not gone.exists()


def test_a_directory_that_is_a_link_to_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    result = discover(tmp_path / "round", {})
    assert "symbolic links" in refused(result)[str(tmp_path / "round")]


def test_a_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    file = put(tmp_path, ".", "acme")
    assert "Not a directory" in refused(discover(file, {}))[str(file)]


def test_a_folder_that_cannot_be_read_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, good = put(tmp_path, "closed", "closed").parent, put(tmp_path, "good", "good")
    scan = os.scandir

    def scandir(path: Path) -> Any:  # The tests may run as root, whom no mode stops.
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = discover(tmp_path, {})
    assert {name: one.path for name, one in result.found.items()} == {"good": good}
    assert "Permission denied" in refused(result)[str(closed)]


def test_a_folder_that_is_being_removed_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, good = put(tmp_path, "going", "going"), put(tmp_path, "good", "good")
    look, read = discovery._looked_at, discovery.read

    def looked_at(path: Path, entries_max: int) -> Any:
        if path == tmp_path:
            result = look(path, entries_max)
            going.unlink()
            going.parent.rmdir()
            return result
        return look(path, entries_max)

    monkeypatch.setattr(discovery, "_looked_at", looked_at)
    assert found(tmp_path) == {"good": good}
    monkeypatch.setattr(discovery, "_looked_at", look)

    def read_late(path: Path, environ: dict[str, str]) -> Any:
        path.unlink()
        return read(path, environ)

    monkeypatch.setattr(discovery, "read", read_late)
    assert found(tmp_path) == {}


def test_a_folder_whose_name_is_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad\xff")).mkdir()
    good = put(tmp_path, "good", "good")
    result = discover(tmp_path, {})
    assert {name: one.path for name, one in result.found.items()} == {"good": good}
    ((where, problems),) = refused(result).items()
    assert where == f"{tmp_path}/bad�"
    assert "its name is not UTF-8" in problems


# ---- What nobody wants. ------------------------------------------------------------------------


def test_a_file_called_disabled_marks_a_plugin(tmp_path: Path) -> None:
    put(tmp_path, "a", "acme")
    (tmp_path / "a" / "disabled").touch()
    put(tmp_path, "b", "beta")
    (tmp_path / "b" / "disabled.txt").touch()
    result = discover(tmp_path, {})
    assert set(result.found) == {"acme", "beta"}
    assert result.disabled == {"acme"}


def test_a_plugin_is_disabled_though_its_manifest_is_wrong(tmp_path: Path) -> None:
    bad = put(tmp_path, "a", "acme", type="grpc")
    (tmp_path / "a" / "disabled").touch()
    unknown = put(tmp_path, "b", "beta")
    unknown.write_text("{")
    (tmp_path / "b" / "disabled").touch()
    result = discover(tmp_path, {})
    assert result.disabled == {"acme"}
    assert set(result.refused) == {str(bad), str(unknown)}


@pytest.mark.parametrize(("old", "new"), [("a", "b"), ("b", "a")])
def test_a_disabled_plugin_gives_way_to_one_that_is_wanted(
    tmp_path: Path, old: str, new: str
) -> None:
    put(tmp_path, old, "acme")
    (tmp_path / old / "disabled").touch()
    wanted = put(tmp_path, new, "acme")
    result = discover(tmp_path, {})
    assert result.found["acme"].path == wanted
    assert result.disabled == frozenset()
    assert result.refused == {}


def test_of_two_disabled_plugins_the_first_is_shown(tmp_path: Path) -> None:
    for place in ("b", "a"):
        first = put(tmp_path, place, "acme")
        (tmp_path / place / "disabled").touch()
    result = discover(tmp_path, {})
    assert result.found["acme"].path == first
    assert (result.disabled, result.refused) == ({"acme"}, {})


# ---- Bounds. -----------------------------------------------------------------------------------


def test_what_lies_too_deep_is_told_and_the_rest_is_found(tmp_path: Path) -> None:
    edge = put(tmp_path, "/".join("d" * DEPTH_MAX), "edge")
    put(tmp_path, "/".join("d" * (DEPTH_MAX + 1)), "deep")
    result = discover(tmp_path, {})
    assert {name: one.path for name, one in result.found.items()} == {"edge": edge}
    assert "more than 8 folders below it" in refused(result)[str(tmp_path)]


def test_what_lies_too_deep_and_is_being_removed_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "/".join("d" * (DEPTH_MAX + 1))
    deep.mkdir(parents=True)
    look = discovery._looked_at

    def looked_at(path: Path, entries_max: int) -> Any:
        result = look(path, entries_max)
        if path == deep.parent:
            deep.rmdir()
        return result

    monkeypatch.setattr(discovery, "_looked_at", looked_at)
    assert found(tmp_path) == {}
    assert not deep.exists()


@pytest.fixture
def few_entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(discovery, "ENTRIES_MAX", 20)
    return 20


def test_what_is_deep_and_large_hides_nothing_above_it(tmp_path: Path, few_entries: int) -> None:
    for number in range(few_entries):
        (tmp_path / "a" / "data" / str(number)).mkdir(parents=True)
    acme, beta = put(tmp_path, "a", "acme"), put(tmp_path, "z", "beta")
    result = discover(tmp_path, {})
    assert {name: one.path for name, one in result.found.items()} == {"acme": acme, "beta": beta}
    (told,) = refused(result).values()
    assert "more than 20 files and folders" in told


def test_as_many_entries_as_are_allowed_are_no_problem(tmp_path: Path, few_entries: int) -> None:
    for number in range(few_entries - 2):
        (tmp_path / str(number)).touch()
    acme = put(tmp_path, "a", "acme")
    assert found(tmp_path) == {"acme": acme}
