"""`loomproxy serve`: be a node."""

import sys
from functools import partial

import click

from loomproxy.cli.source import from_arguments, from_file, show
from loomproxy.config.problem import Problems
from loomproxy.node.main import run


@click.command()
@click.argument("file", type=click.Path(), required=False)
@click.option(
    "--listen", metavar="ADDRESS", multiple=True, help="Where to listen, as in 127.0.0.1:8080."
)
@click.option(
    "--to", metavar="URL", multiple=True, help="Where to send everything; may be repeated."
)
@click.option(
    "--workers", type=click.IntRange(1, 512), help="Worker processes; default: one per core."
)
@click.option(
    "--admin", metavar="ADDRESS", help="Where operators ask; default: a private Unix socket."
)
def serve(
    file: str | None,
    listen: tuple[str, ...],
    to: tuple[str, ...],
    workers: int | None,
    admin: str | None,
) -> None:
    """Serve the configuration in FILE, or everything from --listen to --to without one.

    SIGHUP reloads FILE, SIGTERM and Ctrl-C drain, a second one forces.
    """
    if file is not None:
        if listen or to or workers or admin:
            raise click.UsageError("FILE says all that --listen, --to, --workers and --admin say.")
        source = partial(from_file, file)
    elif len(listen) > 1:
        raise click.UsageError("--listen is given once. For several listeners write a FILE.")
    elif listen and to:
        source = partial(from_arguments, listen[0], to, workers, admin)
    else:
        raise click.UsageError("Give a FILE, or both --listen and --to.")
    config = source()
    if isinstance(config, Problems):
        show(config)
        sys.exit(1)
    sys.exit(run(config, source, file or ""))
