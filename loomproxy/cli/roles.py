"""The roles that the node starts by itself: a worker, the demo upstream. Nobody types these."""

import os
import socket

import click

from loomproxy.process import die_with_parent


@click.command(hidden=True)
@click.option("--channel", type=int, required=True)
def worker(channel: int) -> None:
    """Be a worker on the channel at this descriptor."""
    from loomproxy.channel import peer_pid  # noqa: PLC0415 # the demo needs none of it
    from loomproxy.worker.main import run  # noqa: PLC0415 # as above

    with socket.socket(fileno=os.dup(channel)) as sock:
        die_with_parent(peer_pid(sock))
    run(channel)


@click.command(hidden=True)
@click.option("--listen", required=True)
@click.option("--parent", type=int, required=True)
def demo(listen: str, parent: int) -> None:
    """Be the demo upstream at this address."""
    from loomproxy.demo import run  # noqa: PLC0415 # workers need none of it

    run(listen, parent)
