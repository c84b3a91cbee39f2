"""Availability as clients see it behind HAProxy, while every few seconds something fails.

Three instances with a plugin each, a constant load of idempotent requests, and in a shuffled order:
an instance killed, or stopped for ten seconds; an instance cut off from the database; the database
restarted; a revision published that not all can run; a plugin killed. A request fails if a client
does not get its whole 200 within 30 s; nobody but HAProxy tries again.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from loadtest.together import behind_balancers, markdown
from tests.support import processes
from tests.support.balanced import Balanced
from tests.support.instances import asked
from tests.support.loom import ROOT
from tests.support.pace import Asked, Pace, pace

STOPPED_S = 10.0
CUT_OFF_S = 12.0
AWAY_S = 3.0
MENDED_WITHIN_S = 60.0
SLOW_S = 1.0
NINES_WANTED = 0.9999
PATH = "/hello"
CHAT_PER_S = 5.0

ONLY_HERE = "ONLY_FIRST"
"""A variable that the first instance alone has: what refers to it, the others cannot run."""


class Fault(msgspec.Struct, frozen=True):
    """What was done, and when; it counts until the next one."""

    name: str
    at: float
    undone_at: float


def run(options: argparse.Namespace) -> int:
    """Endure it, and print the tables; 1 where fewer than 99.99 % were well."""
    plugins = {"directory": str(ROOT / "examples" / "plugins" / "echo-python")}
    alone = {"inst1": {ONLY_HERE: "here"}}
    with behind_balancers(3, more={"plugins": plugins}, environments=alone, chat=True) as play:
        with pace(play.sticky, options.rate, PATH) as client, _models(play) as models:
            faults = _faults(play, options)
        print(_tables(client.asked, models.asked, faults, options))
    good = sum(one.status == 200 for one in client.asked)
    return 0 if good / len(client.asked) >= NINES_WANTED else 1


@contextlib.contextmanager
def _models(play: Balanced) -> Iterator[Pace]:
    """Somebody who asks which models there are: an idempotent request that needs the plugin."""
    with pace(play.sticky, CHAT_PER_S, "/v1/models") as made:
        yield made


def _faults(play: Balanced, options: argparse.Namespace) -> list[Fault]:
    dice = random.Random(options.seed)
    done: list[Fault] = []
    order: list[Callable[[Balanced, random.Random], str]] = []
    end = time.monotonic() + options.minutes * 60
    next_at = time.monotonic() + options.every
    while next_at < end:
        time.sleep(max(0.0, next_at - time.monotonic()))
        if not order:
            order = list(ALL)
            dice.shuffle(order)
        at = time.monotonic()
        name = order.pop()(play, dice)
        done.append(Fault(name, at, time.monotonic()))
        print(f"{len(done)} {name}: {done[-1].undone_at - at:.1f} s", file=sys.stderr, flush=True)
        next_at = max(next_at + options.every, time.monotonic() + 1.0)
    time.sleep(max(0.0, end - time.monotonic()))
    return done


def _killed(play: Balanced, dice: random.Random) -> str:
    """One instance is gone at once, as with kill -9; it is started again, as systemd would."""
    name = dice.choice(play.names)
    loom = play.looms[name]
    leads = asked(loom)["leads"]
    loom.expected_to_fail = True
    loom.signal(signal.SIGKILL)
    loom.wait_exit()
    play.start(name)
    return "leader killed" if leads else "instance killed"


def _stopped(play: Balanced, dice: random.Random) -> str:
    """All processes of one instance stand still for a while."""
    loom = play.looms[dice.choice(play.names)]
    family = processes.marked(loom.mark)
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(STOPPED_S)
    for pid in family:
        os.kill(pid, signal.SIGCONT)
    return "instance stopped for 10 s"


def _cut_off(play: Balanced, dice: random.Random) -> str:
    """One instance cannot reach the database."""
    name = next(
        (name for name in play.names if asked(play.looms[name])["leads"]), dice.choice(play.names)
    )
    play.ways[name].stall()
    time.sleep(CUT_OFF_S)
    play.ways[name].heal()
    return "leader cut off for 12 s"


def _restarted(play: Balanced, _dice: random.Random) -> str:
    """The database is away for some seconds."""
    play.together.server.stop("immediate")
    time.sleep(AWAY_S)
    play.together.server.start()
    return "database restarted"


def _bad_revision(play: Balanced, _dice: random.Random) -> str:
    """A revision is published that not all can run, and taken back."""
    first = play.looms[play.names[0]]
    admin = ("--admin", f"unix:{first.admin}")
    document = json.dumps(
        {
            "pools": first.config["pools"],
            "routes": first.config["routes"],
            "plugins": {"config": {ONLY_HERE.lower(): {"key": f"${{{ONLY_HERE}}}"}}},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        bad = Path(folder) / "bad.yaml"
        bad.write_text(document)
        done = first.run("cluster", "publish", str(bad), *admin, within_s=MENDED_WITHIN_S)
        assert done.returncode == 1, "all run what only one can"
    done = first.run("cluster", "rollback", "0", *admin, within_s=MENDED_WITHIN_S)
    assert done.returncode == 0, done.stderr
    return "revision published that two of three cannot run"


def _plugin_killed(play: Balanced, dice: random.Random) -> str:
    """A plugin's process is gone at once."""
    loom = play.looms[dice.choice(play.names)]
    (plugin,) = asked(loom, "/api/v1/plugins")["plugins"]
    replicas = [one for each in plugin["generations"] for one in each["replicas"]]
    for replica in replicas:
        if replica["pid"]:
            processes.kill(replica["pid"])
    return "plugin killed"


ALL = (_killed, _stopped, _cut_off, _restarted, _bad_revision, _plugin_killed)


def _tables(
    app: list[Asked], models: list[Asked], faults: list[Fault], options: argparse.Namespace
) -> str:
    heads = ("requests", "count", "failed", "available", "p50, ms", "p99, ms", "slowest, s")
    rows = [_whole("app, through a pool", app), _whole("models, of plugins", models)]
    each = ("fault", "times", "failed", f"slower than {SLOW_S:g} s", "slowest, s")
    costs = [_cost(name, faults, app) for name in sorted({fault.name for fault in faults})]
    why = sorted({one.why or str(one.status) for one in (*app, *models) if one.status != 200})
    return "\n".join(
        [
            f"{options.minutes:g} minutes, {options.rate:g} requests/s, {len(faults)} faults\n",
            markdown(heads, rows),
            "",
            markdown(each, costs),
            "",
            *(f"failed: {one}" for one in why[:20]),
        ]
    )


def _whole(name: str, requests: list[Asked]) -> tuple[object, ...]:
    times = sorted(one.took_s for one in requests)
    failed = sum(one.status != 200 for one in requests)
    return (
        name,
        len(requests),
        failed,
        f"{100 * (1 - failed / len(requests)):.4f} %",
        f"{times[len(times) // 2] * 1000:.1f}",
        f"{times[len(times) * 99 // 100] * 1000:.1f}",
        f"{times[-1]:.2f}",
    )


def _cost(name: str, faults: list[Fault], requests: list[Asked]) -> tuple[object, ...]:
    """What a kind of fault cost, from each until the next fault."""
    edges = [fault.at for fault in faults[1:]] + [float("inf")]
    spans = [
        (fault.at, edge) for fault, edge in zip(faults, edges, strict=True) if fault.name == name
    ]
    hit = [one for one in requests if any(begin <= one.at < end for begin, end in spans)]
    return (
        name,
        len(spans),
        sum(one.status != 200 for one in hit),
        sum(one.took_s > SLOW_S for one in hit),
        f"{max((one.took_s for one in hit), default=0.0):.2f}",
    )
