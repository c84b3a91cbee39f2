"""Instances that share a database: who is there, who leads, what all run, and how one leaves."""

import json
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.instances import (
    HEARTBEAT_S,
    TTL_S,
    Together,
    asked,
    document,
    leader,
    listed,
    published,
    runs,
    says,
)
from tests.support.postgres import PgBouncer
from tests.support.waiting import eventually

SLACK_S = 2.0


def test_instances_see_one_another_and_one_leads(together: Together) -> None:
    one = together.start("one", cluster={"zone": "a", "metadata": {"rack": "7"}})
    two = together.start("two", cluster={"addresses": ["10.0.0.2:8080"]})
    eventually(lambda: set(listed(one)) == {"one", "two"}, "both are listed")
    assert listed(one).keys() == listed(two).keys()
    first, second = (listed(one)[name] for name in ("one", "two"))
    assert (first["zone"], first["metadata"]) == ("a", {"rack": "7"})
    assert first["addresses"] == [f"127.0.0.1:{one.http[1]}"]
    assert second["addresses"] == ["10.0.0.2:8080"]
    assert first["hostname"] == socket.gethostname()
    assert first["pid"] == one.pid
    assert first["started_at"].endswith("Z")
    leading = leader(one, two)
    eventually(
        lambda: sum(each["leader"] for each in listed(one).values()) == 1, "one is shown to lead"
    )
    assert [loom for loom in (one, two) if asked(loom)["leads"]] == [leading]
    assert leading.metric("loomproxy_cluster_leader") == 1
    assert leading.metric("loomproxy_cluster_up") == 1
    said = together.sql("SELECT data_type FROM information_schema.columns WHERE table_schema="
                        "'loomproxy' AND column_name ~ '_at$|^at$|heartbeat$'")  # fmt: skip
    assert {kind for (kind,) in said} == {"timestamp with time zone"}


def test_a_killed_leader_is_replaced_within_its_time_and_a_heartbeat(together: Together) -> None:
    looms = [together.start("one"), together.start("two")]
    gone = leader(*looms)
    (left,) = [loom for loom in looms if loom is not gone]
    gone.expected_to_fail = True
    gone.signal(signal.SIGKILL)
    gone.wait_exit()
    killed_at = time.monotonic()
    leader(left, within_s=TTL_S + HEARTBEAT_S + SLACK_S)
    took_s = time.monotonic() - killed_at
    assert took_s < TTL_S + HEARTBEAT_S + SLACK_S
    silent = listed(left)["one" if gone is looms[0] else "two"]
    assert (silent["status"], silent["active"]) == ("silent", False)


def test_who_was_silent_for_long_is_forgotten_by_the_leader(together: Together) -> None:
    looms = [together.start(name, cluster={"forget_after": "2s"}) for name in ("one", "two")]
    gone = leader(*looms)
    (left,) = [loom for loom in looms if loom is not gone]
    gone.expected_to_fail = True
    gone.signal(signal.SIGKILL)
    gone.wait_exit()
    eventually(lambda: len(listed(left)) == 1, "it is forgotten", within_s=20.0)
    kinds = [event["kind"] for event in asked(left, "/api/v1/cluster/events")["events"]]
    assert "forgotten" in kinds


def test_who_leaves_in_order_is_off_the_list_and_leads_no_more_at_once(together: Together) -> None:
    looms = [together.start("one"), together.start("two")]
    leaving = leader(*looms)
    (left,) = [loom for loom in looms if loom is not leaving]
    leaving.signal(signal.SIGTERM)
    assert leaving.wait_exit() == 0
    began = time.monotonic()
    leader(left)
    assert time.monotonic() - began < TTL_S, "it was let go, and had not to run out"
    assert len(listed(left)) == 1


def test_while_it_drains_it_is_shown_to(together: Together) -> None:
    one = together.start("one")
    two = together.start("two", node={"drain": {"grace": "3s", "deadline": "5s"}})
    eventually(lambda: "two" in listed(one), "both are listed")
    two.signal(signal.SIGTERM)
    eventually(lambda: listed(one)["two"]["status"] == "draining", "it says that it drains")
    assert two.ask_admin("/health/ready").status == 503
    assert runs(two, "file"), "during its grace it goes on serving"
    leader(one, within_s=2.0)
    two.wait_exit()


def test_what_is_published_runs_everywhere_within_two_seconds(
    together: Together, tmp_path: Path
) -> None:
    slow = {"heartbeat": "30s", "active_within": "60s", "forget_after": "1h"}
    looms = [together.start(name, cluster=slow) for name in ("one", "two", "three")]
    eventually(lambda: len(listed(looms[0])) == 3, "all are listed")
    began = time.monotonic()
    assert published(looms[0], document("new"), tmp_path, "--wait", "0") == 0
    for loom in looms:
        eventually(lambda loom=loom: runs(loom, "new"), "the new one runs", within_s=2.0)
    assert time.monotonic() - began < 4.0, "the command's own time included"
    for loom in looms:
        eventually(lambda loom=loom: asked(loom)["running"] == 1, "it knows what it runs")
    assert looms[0].metric("loomproxy_cluster_revision_running") == 1


def test_without_hints_it_runs_everywhere_within_one_poll(
    together: Together, pooler: PgBouncer, tmp_path: Path
) -> None:
    one = together.start("one", port=pooler.port)
    two = together.start("two", port=pooler.port)
    assert published(one, document("new"), tmp_path) == 0
    eventually(lambda: runs(two, "new"), "a beat told of it", within_s=HEARTBEAT_S + SLACK_S)


def test_a_bad_document_is_refused_with_every_reason_and_nothing_changes(
    together: Together, tmp_path: Path
) -> None:
    one = together.start("one")
    file = tmp_path / "bad.yaml"
    file.write_text("routes: [{pool: nowhere}]\nnode: {workers: 9}\n")
    done = one.run("cluster", "publish", str(file), "--admin", f"unix:{one.admin}")
    assert done.returncode == 1
    assert "nowhere is no pool" in done.stderr
    assert "node: this key is each instance's own" in done.stderr
    assert asked(one, "/api/v1/cluster/revisions") == {"revisions": []}
    assert runs(one, "file")


def test_who_cannot_run_a_revision_keeps_the_last_and_is_seen_to(
    together: Together, tmp_path: Path
) -> None:
    text = document("${GREETING}")
    one = together.start("one", env={"GREETING": "from one"})
    two = together.start("two")
    assert published(one, document("shared"), tmp_path) == 0
    assert published(one, text, tmp_path) == 1, "the command says that not all run it"
    eventually(lambda: runs(one, "from one"), "one runs it")
    assert runs(two, "shared"), "two keeps what it had"
    told = eventually(lambda: (each := listed(one)["two"])["refused"] and each, "two is lagging")
    assert (told["revision"], told["refused"], told["lagging"]) == (1, 2, True)
    assert "GREETING" in told["problems"][0]
    assert two.metric("loomproxy_cluster_revision_refused") == 1
    done = one.run("cluster", "rollback", "1", "--admin", f"unix:{one.admin}")
    assert done.returncode == 0, done.stderr
    eventually(lambda: runs(one, "shared"), "one runs the old one again")
    assert not listed(one)["two"]["lagging"]


def test_revisions_are_listed_shown_compared_and_rolled_back(
    together: Together, tmp_path: Path
) -> None:
    one = together.start("one")
    admin = ("--admin", f"unix:{one.admin}")
    assert published(one, "routes: []\n", tmp_path, "--note", "empty", "--author", "ann") == 0
    assert published(one, document("new") + "\n", tmp_path, "--expected", "1") == 0
    assert published(one, document("newer"), tmp_path, "--expected", "1") == 1, "one in between"
    listing = one.run("cluster", "list", *admin).stdout
    assert "ann" in listing
    assert "empty" in listing
    assert one.run("cluster", "show", "1", *admin).stdout == "routes: []\n"
    differing = one.run("cluster", "diff", "1", *admin)
    assert differing.returncode == 1
    assert "-routes: []" in differing.stdout
    assert one.run("cluster", "diff", "2", str(tmp_path / "document.yaml"), *admin).returncode == 1
    assert one.run("cluster", "diff", "2", "newest", *admin).returncode == 0
    assert one.run("cluster", "rollback", "0", *admin).returncode == 0
    eventually(lambda: runs(one, "file"), "its own file again")
    assert one.run("cluster", "rollback", "9", *admin).returncode == 1


def test_a_reload_of_the_file_keeps_what_is_published(together: Together, tmp_path: Path) -> None:
    one = together.start("one")
    assert published(one, document("published"), tmp_path) == 0
    config = dict(one.config)
    one.reload({**config, "routes": says("file, changed")})
    assert runs(one, "published")
    assert one.run("cluster", "rollback", "0", "--admin", f"unix:{one.admin}").returncode == 0
    eventually(lambda: runs(one, "file, changed"), "the file as it is now")


def test_a_leader_steps_down_when_asked(together: Together) -> None:
    looms = [together.start("one"), together.start("two")]
    leading = leader(*looms)
    (other,) = [loom for loom in looms if loom is not leading]
    done = other.run("cluster", "step-down", "--admin", f"unix:{other.admin}")
    assert done.returncode == 0, done.stderr
    leader(other, within_s=TTL_S)
    shown = other.run("cluster", "leases", "--admin", f"unix:{other.admin}").stdout
    assert "leader" in shown


def test_an_evicted_instance_drains_and_leaves(together: Together) -> None:
    one, two = together.start("one"), together.start("two")
    eventually(lambda: "two" in listed(one), "both are listed")
    assert one.run("cluster", "evict", "two", "--admin", f"unix:{one.admin}").returncode == 0
    assert two.wait_exit() == 0
    assert "two" not in listed(one)
    gone = one.run("cluster", "evict", "two", "--admin", f"unix:{one.admin}")
    assert gone.returncode == 1
    assert "there is no instance" in gone.stderr


def test_two_with_one_name_are_told_and_both_serve(together: Together) -> None:
    first = together.start("same")
    second = together.start("same")
    first.wait_said("the name of this instance is used by another process")
    assert asked(first)["replaced"]
    assert not asked(second)["replaced"]
    assert runs(first, "file")
    assert list(listed(second)) == ["same"]


def test_a_schema_that_is_newer_is_worked_with_and_another_is_refused(together: Together) -> None:
    one = together.start("one")
    together.sql("INSERT INTO loomproxy.schema_migrations VALUES (99, 'of_tomorrow', now())")
    two = together.start("two")
    eventually(lambda: set(listed(one)) == {"one", "two"}, "old and new side by side")
    together.sql("UPDATE loomproxy.schema_migrations SET name = 'of_somebody' WHERE version = 1")
    three = together.prepare("three", node={"startup_timeout": "2s"})
    three.expected_to_fail = True
    three.start(ready=False)
    assert three.wait_exit() == 1
    assert "'of_somebody'" in three.said()
    assert two.process is not None


def test_migrations_are_printed_before_they_are_run(together: Together) -> None:
    one = together.prepare("one")
    dry = one.run("cluster", "migrate", str(one.config_path), "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "CREATE TABLE distributed_locks" in dry.stdout
    assert together.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'loomproxy'") == [("0",)]
    done = one.run("cluster", "migrate", str(one.config_path))
    assert done.stdout == "1 members_leases_revisions\n"
    again = one.run("cluster", "migrate", str(one.config_path))
    assert (again.returncode, again.stdout) == (0, "")
    one.start()


def test_secrets_of_the_store_reach_neither_workers_nor_logs(together: Together) -> None:
    secret = "hunter2"
    dsn = together.server.dsn(together.database).replace("loom@", f"loom:{secret}@")
    one = together.start("one", database={"dsn": "${DATABASE_DSN}"}, env={"DATABASE_DSN": dsn})
    eventually(lambda: asked(one)["beats"] > 0, "it beats")
    for pid in one.workers():
        assert secret.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert secret not in one.said()
    assert secret not in json.dumps([asked(one), asked(one, "/api/v1/status")])


@pytest.mark.parametrize("target", ["/api/v1/instances", "/api/v1/cluster"])
def test_a_node_alone_says_that_it_has_no_cluster(together: Together, target: str) -> None:
    one = together.proxies.start({"routes": says("alone")})
    answer = one.ask_admin(target)
    assert answer.status == 404
    assert b"`database` section" in answer.body


def test_a_file_holds_revisions_for_one_instance_and_outlives_it(
    together: Together, tmp_path: Path
) -> None:
    path = str(tmp_path / "store.db")
    one = together.proxies.start({"routes": says("file"), "database": {"path": path}})
    assert published(one, document("published"), tmp_path) == 0
    eventually(lambda: runs(one, "published"), "it runs it")
    assert Path(path).stat().st_mode & 0o777 == 0o600
    leader(one)
    one.signal(signal.SIGTERM)
    one.wait_exit()
    again = together.proxies.start({"routes": says("file"), "database": {"path": path}})
    assert runs(again, "published")
