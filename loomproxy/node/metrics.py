"""Gathers what the metrics page is made from; `exposition` renders it."""

import loomproxy
from loomproxy.channel import Stats
from loomproxy.node.cluster import ClusterReading
from loomproxy.node.exposition import CONTENT_TYPE, Reading, WorkerReading, render
from loomproxy.node.http import Reply
from loomproxy.node.plugin_figures import Plugin
from loomproxy.node.reload import Reloader
from loomproxy.node.supervisor import Supervisor


def page(
    supervisor: Supervisor,
    reloader: Reloader,
    stats: dict[int, Stats],
    plugins: tuple[Plugin, ...],
    cluster: ClusterReading | None,
    *,
    ready: bool,
) -> Reply:
    """The metrics page of now. `stats` are the workers' views of their pools, by slot."""
    reading = Reading(
        version=loomproxy.__version__,
        revision=supervisor.current.revision,
        ready=ready,
        tally=supervisor.total(),
        workers=tuple(_readings(supervisor, stats)),
        worker_restarts=supervisor.restarts,
        reloads={"ok": reloader.succeeded, "refused": reloader.failed},
        node_loop_lag_s=supervisor.loop_lag_s,
        plugins=plugins,
        cluster=cluster,
    )
    return Reply(200, render(reading), CONTENT_TYPE)


def _readings(supervisor: Supervisor, stats: dict[int, Stats]) -> list[WorkerReading]:
    """One for each worker that lives and has said a word."""
    found = []
    for slot in supervisor.slots:
        pong = slot.worker.pong if slot.worker is not None else None
        if pong is not None:
            pools = stats[slot.number].pools if slot.number in stats else ()
            found.append(
                WorkerReading(slot.number, pong.connections, pong.in_flight, pong.loop_lag_s, pools)
            )
    return found
