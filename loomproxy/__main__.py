"""`python -m loomproxy`: the command line."""

from loomproxy.cli.app import main

if __name__ == "__main__":
    main()
