"""What several tests of plugins need."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a plugin is, with a short path; others may pass through the folders above it."""
    with tempfile.TemporaryDirectory(prefix="plugin-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
