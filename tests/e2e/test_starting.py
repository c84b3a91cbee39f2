"""Starting: without a file, side by side, on every kind of address, with a bad configuration."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.caller import Caller, ask
from tests.support.loom import pool, settings, to
from tests.support.origin import Origin
from tests.support.places import free_port, ipv6_is_here

needs_ipv6 = pytest.mark.skipif(not ipv6_is_here(), reason="this machine has no ::1")


def test_it_stands_before_an_app_without_a_file(proxies, origin):
    port = free_port()
    loom = proxies.serve("--listen", f"127.0.0.1:{port}", "--to", origin.url, "--workers", "1")
    assert ask(("127.0.0.1", port), "/x").json()["origin"] == "origin"
    assert len(loom.workers()) == 1


def test_several_instances_without_a_file_do_not_collide(proxies):
    with Origin("one") as one, Origin("two") as two:
        ports = [free_port(), free_port()]
        looms = [
            proxies.serve("--listen", f"127.0.0.1:{port}", "--to", origin.url, "--workers", "1")
            for port, origin in zip(ports, (one, two), strict=True)
        ]
        assert [ask(("127.0.0.1", port), "/x").json()["origin"] for port in ports] == ["one", "two"]
        for loom in looms:
            done = loom.run("status")
            assert done.returncode == 0, done.stdout + done.stderr
        looms[0].signal(signal.SIGTERM)
        assert looms[0].wait_exit() == 0
        assert ask(("127.0.0.1", ports[1]), "/x").json()["origin"] == "two"


def test_several_upstreams_share_the_traffic(proxies):
    with Origin("one") as one, Origin("two") as two:
        port = free_port()
        proxies.serve(
            "--listen", f"127.0.0.1:{port}", "--to", one.url, "--to", two.url, "--workers", "1"
        )
        answers = [ask(("127.0.0.1", port), "/x").json()["origin"] for _ in range(6)]
        assert sorted(answers) == ["one"] * 3 + ["two"] * 3


def test_the_admin_listener_may_have_an_address(proxies, origin):
    port, admin = free_port(), free_port()
    loom = proxies.serve(
        "--listen",
        f"127.0.0.1:{port}",
        "--to",
        origin.url,
        "--workers",
        "1",
        "--admin",
        f"127.0.0.1:{admin}",
    )
    assert ask(("127.0.0.1", admin), "/health/ready").status == 200
    assert loom.run("status").returncode == 0, "and it is still found without being told where"


def test_a_unix_socket_to_listen_on(proxies, origin):
    loom = proxies.start(
        settings(
            listeners=[{"name": "http", "address": "unix", "mode": "0600"}],
            pools={"app": pool(origin.url)},
            routes=[to("app")],
        )
    )
    path = loom.http
    assert isinstance(path, str)
    assert ask(path, "/x").status == 200
    assert Path(path).stat().st_mode & 0o777 == 0o600
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", path, "http://app.example/curl"],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["target"] == "/curl"
    loom.signal(signal.SIGTERM)
    assert loom.wait_exit() == 0
    assert not Path(path).exists(), "its socket file stays behind"


def test_a_unix_socket_to_send_to(proxies):
    path = f"/tmp/loom-origin-{os.getpid()}.sock"  # tmp_path may be too long
    with Origin("unix", at=path) as origin:
        loom = proxies.start(settings(pools={"app": pool(origin.url)}, routes=[to("app")]))
        seen = [loom.ask("/x").json() for _ in range(3)]
    assert {each["origin"] for each in seen} == {"unix"}
    assert len({each["line"] for each in seen}) == 1, "kept alive as any other"
    assert loom.line("/x")["endpoint"] == origin.url
    Path(path).unlink()


@needs_ipv6
def test_ipv6_on_both_sides(proxies):
    with Origin("six", at="::1") as origin:
        loom = proxies.start(
            settings(
                listeners=[{"name": "http", "address": "::1"}],
                pools={"app": pool(origin.url)},
                routes=[to("app")],
            )
        )
        seen = loom.ask("/x").json()
        assert dict(map(tuple, seen["fields"]))["x-forwarded-for"] == "::1"
        assert loom.line("/x")["client_ip"] == "::1"


@needs_ipv6
def test_one_listener_for_both_families(proxies, origin):
    port = free_port("::")
    loom = proxies.serve("--listen", f":{port}", "--to", origin.url, "--workers", "1")
    assert loom.workers()
    for host in ("127.0.0.1", "::1"):
        seen = ask((host, port), "/x").json()
        assert dict(map(tuple, seen["fields"]))["x-forwarded-for"] == host


def test_several_listeners_have_routes_of_their_own(proxies, origin):
    loom = proxies.start(
        settings(
            listeners=[{"name": "http"}, {"name": "inside"}],
            pools={"app": pool(origin.url)},
            routes=[
                to("app", name="public"),
                {
                    "name": "private",
                    "match": {"listeners": "inside"},
                    "respond": {"body": "inside"},
                },
            ],
        )
    )
    assert loom.ask("/").json()["origin"] == "origin"
    with Caller(loom.addresses["inside"]) as caller:
        assert caller.get("/").status == 200


def test_a_bad_file_names_every_problem_and_starts_nothing(proxies, origin):
    loom = proxies.prepare(
        settings(
            pools={"app": pool("ftp://x", {"address": origin.url, "weight": 0})},
            routes=[to("nowhere"), {"match": {"path_regex": "("}, "respond": {"status": 42}}],
            timeouts={"conect": "1s"},
        )
    )
    loom.expected_to_fail = True
    loom.start(ready=False)
    assert loom.wait_exit() != 0
    said = loom.said()
    for path in (
        "pools.app.endpoints[0]",
        "pools.app.endpoints[1].weight",
        "routes[0].pool",
        "routes[1].match.path_regex",
        "routes[1].respond.status",
        "timeouts.conect",
    ):
        assert path in said, f"{path} is not named in:\n{said}"
    assert "connect" in said, "the key that was meant"
    done = loom.run("check", str(loom.config_path))
    assert done.returncode == 1
    assert "routes[0].pool" in done.stdout + done.stderr


def test_check_likes_what_serve_likes(proxies, origin):
    loom = proxies.start(settings(pools={"app": pool(origin.url)}, routes=[to("app")]))
    done = loom.run("check", str(loom.config_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_file_that_is_not_there_is_said_in_one_line(proxies):
    loom = proxies.prepare(settings(), "serve", "/nowhere/loomproxy.yaml")
    loom.expected_to_fail = True
    loom.start(ready=False)
    assert loom.wait_exit() != 0
    assert "/nowhere/loomproxy.yaml" in loom.said()
    assert "Traceback" not in loom.said()


def test_an_address_in_use_is_said_and_ends_the_start(proxies, origin):
    loom = proxies.prepare(
        settings(
            listeners=[{"name": "http", "address": f"127.0.0.1:{origin.port}"}],
            pools={"app": pool(origin.url)},
            routes=[to("app")],
        )
    )
    loom.expected_to_fail = True
    loom.start(ready=False)
    assert loom.wait_exit() != 0
    assert str(origin.port) in loom.said()
    assert "in use" in loom.said()
    assert "Traceback" not in loom.said()


@pytest.mark.parametrize("form", ["yaml", "toml", "json"])
def test_each_form_of_the_file_is_read(proxies, origin, form):
    port = free_port()
    address, url = f"127.0.0.1:{port}", origin.url
    texts = {
        "yaml": f"""
node: {{workers: 1}}
listeners: [{{name: http, address: "{address}"}}]
pools: {{app: {{endpoints: ["{url}"]}}}}
routes: [{{pool: app}}]
""",
        "toml": f"""
[node]
workers = 1
[[listeners]]
name = "http"
address = "{address}"
[pools.app]
endpoints = ["{url}"]
[[routes]]
pool = "app"
""",
        "json": json.dumps(
            {
                "node": {"workers": 1},
                "listeners": [{"name": "http", "address": address}],
                "pools": {"app": {"endpoints": [url]}},
                "routes": [{"pool": "app"}],
            }
        ),
    }
    loom = proxies.prepare(settings())
    file = loom.directory / f"its.{form}"
    file.write_text(texts[form])
    served = proxies.serve(str(file))
    assert ask(("127.0.0.1", port), "/x").json()["origin"] == "origin"
    assert served.workers()


def test_secrets_come_from_the_environment(proxies, origin):
    loom = proxies.prepare(
        settings(
            pools={"app": pool(origin.url)},
            routes=[to("app", request_headers={"set": {"X-Token": "${TEST_TOKEN}"}})],
        )
    )
    loom.start(env={"TEST_TOKEN": "s3cret"})
    seen = loom.ask("/x").json()
    assert dict(map(tuple, seen["fields"]))["x-token"] == "s3cret"
    assert "s3cret" not in loom.said()


def test_the_version_is_said(proxies):
    loom = proxies.prepare(settings())
    done = loom.run("--version")
    assert done.returncode == 0
    assert "loomproxy" in done.stdout
