"""A new configuration is published without dropping a request, or the old one kept, with why."""

import signal

import pytest

from tests.support.load import Load
from tests.support.loom import Loom, Looms, pool, settings, to
from tests.support.origin import Origin, Scene
from tests.support.waiting import eventually


@pytest.fixture
def second():
    with Origin("second") as made:
        yield made


def config(origin: Origin, **more) -> dict:
    """Everything to this origin."""
    node = {"workers": 2, **more.pop("node", {})}
    return settings(node=node, pools={"app": pool(origin.url)}, routes=[to("app")], **more)


def start(proxies: Looms, origin: Origin, **more) -> Loom:
    return proxies.start(config(origin, **more))


def test_sighup_under_load_fails_no_request(proxies, origin, second):
    loom = start(proxies, origin)
    workers = loom.workers()
    with Load(loom.http, "/x", callers=8) as load:
        load.wait_answered(50)
        for number in range(6):
            loom.reload(config(second if number % 2 == 0 else origin))
            load.wait_answered(30)
        score = load.finish()
    assert (score.failed, score.raced, score.turned_away) == ([], 0, 0)
    assert loom.workers() == workers, "no worker was replaced for it"
    assert len(second.journal.all("request")) > 20


def test_the_reload_command_publishes_and_says_so(proxies, origin, second):
    loom = start(proxies, origin)
    assert loom.ask("/x").json()["origin"] == "origin"
    loom.write_config(config(second))
    done = loom.run("reload")
    assert done.returncode == 0, done.stderr + done.stdout
    assert {loom.ask("/x").json()["origin"] for _ in range(6)} == {"second"}


def test_posts_under_load_survive_reloads_too(proxies, origin, second):
    loom = start(proxies, origin)
    with Load(loom.http, "/x", method="POST", body=b"x" * 2000, callers=6) as load:
        for number in range(4):
            load.wait_answered(20)
            loom.reload(config(second if number % 2 == 0 else origin))
        score = load.finish()
    assert (score.failed, score.raced) == ([], 0)


def test_a_broken_file_keeps_the_old_configuration_and_says_why(proxies, origin):
    loom = start(proxies, origin)
    broken = config(origin)
    broken["pools"]["app"]["endpoints"] = ["http://127.0.0.1:99999"]
    broken["routes"][0]["retri"] = {}
    loom.write_config(broken)
    done = loom.run("reload")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "pools.app.endpoints[0]" in said
    assert "routes[0].retri" in said
    assert "Traceback" not in said
    assert loom.ask("/x").status == 200
    loom.signal(signal.SIGHUP)
    loom.wait_said("routes[0].retri")
    loom.wait_note("RELOADING=1")
    loom.wait_note("READY=1")
    assert loom.ask("/x").status == 200
    assert loom.metric("loomproxy_reloads_total", result="refused") == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"listeners": 7}', "\x00\xff"])
def test_a_file_that_is_no_configuration_keeps_the_old_one(proxies, origin, text):
    loom = start(proxies, origin, node={"workers": 1})
    loom.config_path.write_bytes(text.encode("latin-1"))
    done = loom.run("reload")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert loom.ask("/x").status == 200


def test_a_file_that_is_gone_keeps_the_old_configuration(proxies, origin):
    loom = start(proxies, origin, node={"workers": 1})
    loom.config_path.unlink()
    done = loom.run("reload")
    assert done.returncode != 0
    assert str(loom.config_path) in done.stdout + done.stderr
    assert loom.ask("/x").status == 200


def test_what_needs_a_restart_is_named(proxies, origin):
    loom = start(proxies, origin, node={"workers": 1})
    loom.write_config(config(origin, node={"workers": 2}))
    done = loom.run("reload")
    assert done.returncode != 0
    assert "node.workers" in done.stdout + done.stderr
    assert "restart" in done.stdout + done.stderr
    assert len(loom.workers()) == 1


def test_an_exchange_ends_under_the_configuration_it_began_with(proxies, origin, second):
    async def wait(scene: Scene) -> None:
        await scene.cue("reloaded")
        await scene.reply(200, b"old")

    loom = start(proxies, origin, node={"workers": 1})
    origin.on("/wait", wait)
    with loom.caller() as caller:
        caller.ask("/wait")
        origin.journal.wait("request", path="/wait")
        loom.reload(config(second, node={"workers": 1}))
        assert loom.ask("/x").json()["origin"] == "second"
        origin.give("reloaded")
        assert caller.response().body == b"old"
        assert caller.get("/x").json()["origin"] == "second", (
            "the same connection, its next exchange"
        )


def test_idle_connections_to_an_endpoint_that_is_gone_from_the_file_are_closed(
    proxies, origin, second
):
    loom = start(proxies, origin, node={"workers": 1})
    line = loom.ask("/x").json()["line"]
    loom.reload(config(second, node={"workers": 1}))
    origin.journal.wait("left", line=line, within_s=2.0)


def test_a_reload_that_adds_routes_and_pools_is_seen_at_once(proxies, origin, second):
    loom = start(proxies, origin, node={"workers": 1})
    new = config(origin, node={"workers": 1})
    new["pools"]["more"] = pool(second.url)
    new["routes"].append(to("more", "/more", rewrite={"strip_prefix": "/more"}))
    loom.reload(new)
    assert loom.ask("/more/x").json()["target"] == "/x"
    eventually(lambda: loom.metric("loomproxy_config_revision") == 2, "the revision in the metrics")
