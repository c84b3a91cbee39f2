"""`python -m loomproxy`: a role that the node starts, or the command line."""

# ruff: noqa: PLC0415 - a worker starts without the command line, and `--version` without a worker.

import sys


def main() -> None:
    """Be what this process's argv says, and leave with its exit status."""
    if sys.argv[1:2] in (["worker"], ["demo"]):
        from loomproxy.cli.roles import play

        play(sys.argv[1:])
    else:
        from loomproxy.cli.app import cli

        cli(prog_name="loomproxy")


if __name__ == "__main__":
    main()
