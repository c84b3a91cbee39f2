"""`loomproxy cluster migrate`: the schema of a store, without an instance."""

import asyncio
import sys

import click

from loomproxy.cli.source import show
from loomproxy.cluster.opening import store_of
from loomproxy.cluster.store import Migration, SchemaError, StoreAwayError
from loomproxy.config.cluster import Database
from loomproxy.config.load import load
from loomproxy.config.problem import Problems


def migrate(file: str, *, dry_run: bool) -> None:
    """Run, or print, what is pending in the store that a configuration names."""
    config = load(file)
    if isinstance(config, Problems):
        show(config)
        sys.exit(1)
    database = config.static.database
    if database is None:
        raise click.ClickException(f"{file}: it has no `database` section, so there is no store.")
    try:
        steps = asyncio.run(_migrate(database, dry_run=dry_run))
    except (StoreAwayError, SchemaError) as error:
        raise click.ClickException(f"database: {error}") from None
    if not steps:
        click.echo("nothing to do", err=True)
    for step in steps:
        if dry_run:
            click.echo(f"-- {step.version} {step.name}\n{step.sql}")
        else:
            click.echo(f"{step.version} {step.name}")


async def _migrate(database: Database, *, dry_run: bool) -> tuple[Migration, ...]:
    store = store_of(database, "migrate")
    try:
        return await (store.pending() if dry_run else store.migrate())
    finally:
        await store.close()
