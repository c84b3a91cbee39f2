"""Writes the reference and the JSON schema of the configuration from the model.

`python -m loomproxy.config` writes `docs/configuration.md` and `conf/schema.json`. With `--check`
it writes nothing, and exits with 1 when one of them is not what would be written.
"""

import sys
from pathlib import Path

from loomproxy.config.document import documents


def main(arguments: list[str], root: Path) -> int:
    """Write the documents, or with `--check` only compare them; the exit code."""
    return keep(documents(), arguments, root, "loomproxy.config")


def keep(documents: dict[str, str], arguments: list[str], root: Path, module: str) -> int:
    """The same of any documents, by path; `module` is what is run to write them."""
    stale = [
        path
        for path, text in documents.items()
        if not (root / path).exists() or (root / path).read_text("utf-8") != text
    ]
    if "--check" in arguments:
        for path in stale:
            sys.stderr.write(
                f"{path}: it is not what the model says; expected the text written from it. "
                f"Run python -m {module}.\n"
            )
        return 1 if stale else 0
    for path in stale:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(documents[path], "utf-8")
        sys.stdout.write(f"{path}: written\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], Path(__file__).resolve().parents[2]))
