"""The file serves: node and workers start from it on every interpreter."""

from pathlib import Path

from tests.support.loom import Looms, pool, settings, to
from tests.support.origin import Origin


def mapped_natives(pid: int) -> set[str]:
    """The native libraries of ours that a process has loaded."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {
        line.split(maxsplit=5)[5]
        for line in lines
        if "/site-packages/" in line and line.endswith(".so")
    }


def test_a_worker_answers_from_the_unpacked_content(python: str, pyz: Path, user: dict[str, str]):
    looms = Looms((python, str(pyz)))
    try:
        with Origin() as origin:
            loom = looms.start(
                settings(pools={"app": pool(origin.url)}, routes=[to("app")]),
                env={"HOME": user["HOME"], "PYTHONPATH": "", "PYTHONNOUSERSITE": "1"},
            )
            assert loom.ask("/hello").status == 200
            (worker,) = loom.workers()
            for process in (loom.pid, worker):
                natives = mapped_natives(process)
                assert any("/uvloop/" in path for path in natives)
                assert all(path.startswith(user["HOME"]) for path in natives), natives
    finally:
        looms.close()
