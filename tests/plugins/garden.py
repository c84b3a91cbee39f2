"""Folders with tiny plugins, written and written again as people do."""

import sys
from pathlib import Path
from typing import Any

import msgspec

TINY = Path(__file__).with_name("tiny.py").read_text()


class Garden:
    """A directory of plugins, and for each another one with the files that say how it behaves."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "plugins"
        self.directory.mkdir()
        self.knobs = root / "knobs"

    def plant(self, name: str, what: dict[str, str] | None = None, /, **keys: Any) -> Path:
        """Write a plugin's folder, or write it again."""
        folder = self.directory / name
        folder.mkdir(exist_ok=True)
        self.knob(name).mkdir(parents=True, exist_ok=True)
        metadata = {
            "name": name,
            "version": "1.0.0",
            "plugin_api_version": "1.0.0",
            "provider_type": name,
            **keys.pop("metadata", {}),
        }
        manifest = {
            "metadata": metadata,
            "command": sys.executable,
            "args": ["-S", "-E", "plugin.py"],
            "env": {"LOOM_TINY": str(self.knob(name))},
            "health_check_interval": 0.1,
            "stop_timeout": 2.0,
            **keys,
        }
        if what is not None or not (folder / "plugin.py").exists():
            self.code(name, what or {"version": "1.0.0", "model": "one"})
        half = folder / ".plugin.json.tmp"
        half.write_bytes(msgspec.json.encode({k: v for k, v in manifest.items() if v is not None}))
        half.replace(folder / "plugin.json")
        return folder

    def code(self, name: str, what: dict[str, str]) -> None:
        """Save another version of its code, whole, as editors do."""
        half = self.directory / name / "plugin.py.tmp"
        lines = TINY.splitlines()
        lines[next(i for i, line in enumerate(lines) if line.startswith("WHAT"))] = f"WHAT = {what}"
        half.write_text("\n".join(lines))
        half.replace(self.directory / name / "plugin.py")

    def knob(self, name: str, word: str = "") -> Path:
        return self.knobs / name / word

    def notes(self, name: str) -> list[str]:
        file = self.knob(name, "notes")
        return file.read_text().splitlines() if file.exists() else []
