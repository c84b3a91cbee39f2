"""Writes the reference and the JSON schema of manifests from the model.

`python -m loomproxy.plugins` writes `docs/plugin-manifest.md` and `conf/plugin-schema.json`. With
`--check` it writes nothing, and exits with 1 when one of them is not what would be written.
"""

import sys
from pathlib import Path

from loomproxy.config.__main__ import keep
from loomproxy.plugins.document import documents


def main(arguments: list[str], root: Path) -> int:
    """Write the documents, or with `--check` only compare them; the exit code."""
    return keep(documents(), arguments, root, "loomproxy.plugins")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], Path(__file__).resolve().parents[2]))
