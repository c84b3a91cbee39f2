"""`loomproxy version`."""

import click

import loomproxy


@click.command()
def version() -> None:
    """Say which version this is."""
    click.echo(f"loomproxy {loomproxy.__version__}")
