"""What can be asked of the harness, and what it refuses."""

import pytest

from loadtest import comparing, ramping
from loadtest.accounting import Memory
from loadtest.processes import free_port
from loadtest.proxies import chosen
from loadtest.remembering import Held, render, role_of
from loadtest.stage import Subject
from loadtest.trouble import Trouble


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every machine look as if it lent us two cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {3, 1})


def plan(*argv: str) -> comparing.Plan:
    return comparing.plan_from(comparing.parser().parse_args(argv))


def test_what_is_asked_for_is_measured_and_nothing_else() -> None:
    asked = plan("--proxy", "loomproxy", "--workload", "1m", "--workload", "small")
    assert [one.name for one in asked.proxies] == ["loomproxy"]
    assert [one.name for one in asked.workloads] == ["small", "1m"]
    assert not asked.with_direct
    assert asked.cells == 2 * comparing.ROUNDS_DEFAULT


def test_proxy_and_client_get_different_cores() -> None:
    asked = plan("--proxy", "loomproxy")
    assert (asked.proxy_core, asked.client_core) == (1, 3)


def test_one_core_is_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    with pytest.raises(Trouble, match="expected two"):
        plan("--proxy", "loomproxy")


def test_another_loomproxy_can_be_measured() -> None:
    asked = plan("--proxy", "loomproxy", "--loomproxy", "/bin/sh other.pyz")
    assert asked.proxies[0].command == ("/bin/sh", "other.pyz")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--seconds", "0"), "--seconds: 0"),
        (("--seconds", "601"), "--seconds: 601"),
        (("--rounds", "0"), "--rounds: 0"),
        (("--proxy", "loomproxy", "--loomproxy", "/no/such"), "/no/such is not on this machine"),
    ],
)
def test_what_cannot_be_measured_is_refused(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(Trouble, match=words):
        plan(*argv)


@pytest.mark.parametrize("workload", comparing.WORKLOADS, ids=lambda one: one.name)
def test_where_nobody_answers_the_trouble_names_the_proxy_and_the_load(
    workload: comparing.Workload,
) -> None:
    with (
        pytest.raises(Trouble, match=f"nginx, {workload.name}: .*refused.* Look at"),
        comparing.blaming(Subject("nginx", {}, None), workload),
    ):
        workload.client.verify(free_port())


def ramp_options(*argv: str) -> list[str]:
    options = ramping.parser().parse_args(["report.html", *argv])
    ramping.check(options)
    return ramping.locust_argv(options, "http://127.0.0.1:1")


def after(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_users_arrive_over_the_ramp_and_then_the_rate_is_held() -> None:
    argv = ramp_options("--users", "200", "--ramp", "10", "--duration", "30", "--rate", "900")
    assert after(argv, "--users") == "200"
    assert after(argv, "--spawn-rate") == "20.000"
    assert after(argv, "--run-time") == "40s"
    assert after(argv, "--request-rate") == "900.0"
    assert after(argv, "--html") == "report.html"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--users", "0"), ("--rate", "0.5"), ("--ramp", "-1"), ("--duration", "0")],
)
def test_a_ramp_that_cannot_be_meant_is_refused(option: str, value: str) -> None:
    with pytest.raises(Trouble, match=f"{option}: "):
        ramp_options(option, value)


def test_a_report_needs_its_directory() -> None:
    options = ramping.parser().parse_args(["/no/such/directory/report.html"])
    with pytest.raises(Trouble, match="does not exist"):
        ramping.check(options)


def memory(pid: int, command: str, mib: float) -> Memory:
    return Memory(pid, command, rss_bytes=int(mib * (1 << 20)), pss_bytes=int(mib * (1 << 19)))


NODE, WORKER = "python -m loomproxy serve x.json", "python -m loomproxy worker --channel 5"


def test_an_idle_connection_costs_what_all_processes_grew_by() -> None:
    held = Held(
        proxy="loomproxy",
        started=[memory(1, NODE, 30), memory(2, WORKER, 20)],
        warm=[memory(1, NODE, 30), memory(2, WORKER, 25)],
        connected=[memory(1, NODE, 31), memory(2, WORKER, 64)],
        connections=1024,
        interpreter="",
    )
    assert held.bytes_per_connection == 40 * 1024
    text = render([held], ["date: today"])
    assert (
        "| loomproxy |        all | 50.0 MiB | 55.0 MiB |         95.0 MiB |    47.5 MiB |" in text
    )
    assert "     40.0 |" in text
    assert "1024 connections" in text
    assert "* date: today" in text


@pytest.mark.parametrize(
    ("proxy", "command", "role"),
    [
        ("loomproxy", NODE, "node"),
        ("loomproxy", WORKER, "worker"),
        ("loomproxy", "python /x/dist/loomproxy.pyz serve x.json", "node"),
        ("nginx", "nginx: master process nginx -c /tmp/x/nginx.conf", "master process"),
        ("nginx", "nginx: worker process", "worker process"),
        ("haproxy", "haproxy -db -f /tmp/x/haproxy.cfg", "haproxy"),
        ("envoy", "/a/.venv/bin/envoy -c /tmp/x/envoy.json", "envoy"),
    ],
)
def test_a_process_is_called_by_its_role_or_its_program(
    proxy: str, command: str, role: str
) -> None:
    assert role_of(proxy, command) == role


def test_who_is_not_called_is_not_looked_at() -> None:
    assert [one.name for one in chosen(["loomproxy"], loomproxy=("/bin/sh", "a.pyz"))] == [
        "loomproxy"
    ]
    with pytest.raises(Trouble, match="/no/such is not on this machine"):
        chosen(["loomproxy"], loomproxy=("/no/such",))


def test_who_is_not_here_is_left_out_where_nobody_was_called(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "loomproxy" not in [one.name for one in chosen(None, loomproxy=("/no/such",))]
    assert "loomproxy: not on this machine, left out" in capsys.readouterr().err
