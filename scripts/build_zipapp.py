"""Builds dist/loomproxy.pyz as zipapp.spec says: ours and every interpreter's wheels in one file.

The wheels of one package differ between interpreters only in their native parts, and those carry
the interpreter and the machine in their names; those for the stable ABI, which do not, are given
such names. So all wheels are laid over one another into one tree, and it is an error if two of them
hold different bytes under one name. The tree is packed by shiv; `zipapp_start.py` is put in front
of it.

Two builds of the same tree give the same bytes: files in sorted order, one date, one mode, nothing
of this machine.
"""

import argparse
import fnmatch
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import msgspec
from elf_trim import trimmed
from shiv import __version__ as shiv_version
from shiv.bootstrap.environment import Environment
from shiv.builder import create_archive

ROOT: Final = Path(__file__).resolve().parent.parent
DATE: Final = (
    1980,
    1,
    1,
    0,
    0,
    0,
)  # The earliest that a zip can say: there is no date in the file.
START_MODULE: Final = "zipapp_start"
STABLE_ABI: Final = ".abi3.so"
DOWNLOAD_TIMEOUT_S: Final = 600  # For the wheels of one interpreter on one machine; about 6 MB.


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What zipapp.spec says; the file explains each key."""

    pythons: tuple[str, ...]
    machines: tuple[str, ...]
    platforms: tuple[str, ...]
    lock: str
    sources: tuple[str, ...]
    leave_out: tuple[str, ...]
    natives_with_debug_symbols: bool
    entry_point: str
    shebang: str

    def is_left_out(self, path: str) -> bool:
        """Tell whether a file, named by its path in the tree, does not go in."""
        return any(fnmatch.fnmatch(path, pattern) for pattern in self.leave_out)


class BuildError(Exception):
    """The file cannot be built; the message says where, what was seen, and what to do."""


def read_spec() -> Spec:
    """Read zipapp.spec; raise msgspec.ValidationError, which names the key, where it is wrong."""
    return msgspec.toml.decode((ROOT / "zipapp.spec").read_bytes(), type=Spec)


def wheels(spec: Spec) -> list[Path]:
    """Return the locked wheels of all interpreters and machines; download what is not there yet.

    They are kept below .cache under a name made from what they depend on, so that only the first
    build needs the network.
    """
    lock = ROOT / spec.lock
    wanted = repr((lock.read_bytes(), spec.pythons, spec.machines, spec.platforms))
    kept = ROOT / ".cache" / "wheels" / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as temporary:
            fresh = Path(temporary) / "wheels"
            for python in spec.pythons:
                for machine in spec.machines:
                    download(spec, python, machine, fresh)
            if (
                not kept.is_dir()
            ):  # Another build may have been faster; its wheels have the same hashes.
                fresh.rename(kept)
    return sorted(kept.glob("*.whl"))


def download(spec: Spec, python: str, machine: str, directory: Path) -> None:
    """Download the wheels for one interpreter on one machine; their hashes must be the lock's."""
    print(f"build-zipapp: fetching the wheels of CPython {python} on {machine}", flush=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command += [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--requirement",
        str(ROOT / spec.lock),
    ]
    command += ["--implementation", "cp", "--python-version", python, "--dest", str(directory)]
    for platform in spec.platforms:
        command += ["--platform", f"{platform}_{machine}"]
    if subprocess.run(command, timeout=DOWNLOAD_TIMEOUT_S, check=False).returncode != 0:
        raise BuildError(
            f"the wheels of CPython {python} on {machine} could not be fetched; pip's words are "
            f"above. If one of them does not exist, take {python} or {machine} out of zipapp.spec."
        )


def lay_wheels(spec: Spec, tree: Path) -> None:
    """Unpack all wheels over one another; the same name must mean the same bytes."""
    for wheel in wheels(spec):
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                if info.is_dir() or spec.is_left_out(info.filename):
                    continue
                data = native(spec, info.filename, archive.read(info))
                for name in names_in_tree(spec, info.filename, wheel.name):
                    lay(tree, name, data, origin=wheel.name)


def names_in_tree(spec: Spec, name: str, wheel: str) -> list[str]:
    """Return the names under which a file of a wheel is found by every interpreter it is for.

    `x.abi3.so` is for all interpreters and one machine, but says neither. The first machine's keeps
    its name; another's gets one for each interpreter, which they look for before `abi3`.
    """
    stem = name.removesuffix(STABLE_ABI)
    first, *others = spec.machines
    machine = next((each for each in others if wheel.endswith(f"_{each}.whl")), first)
    if stem == name or machine == first:
        return [name]
    digits = [python.replace(".", "") for python in spec.pythons]
    return [f"{stem}.cpython-{each}-{machine}-linux-gnu.so" for each in digits]


def native(spec: Spec, name: str, data: bytes) -> bytes:
    """Return what is packed for a file: native libraries lose their debugging symbols."""
    if name.endswith(".so") and not spec.natives_with_debug_symbols:
        return trimmed(data)
    return data


def lay(tree: Path, name: str, data: bytes, *, origin: str) -> None:
    """Put one file into the tree, refusing other bytes under a name that is taken."""
    path = tree / name
    if not path.resolve().is_relative_to(tree.resolve()):
        raise BuildError(
            f"{origin}: the name {name!r} leads out of the tree. Do not use this wheel."
        )
    if path.exists():
        # The metadata of two wheels of one release may differ in the tags of the machine, which
        # nobody reads.
        if path.read_bytes() != data and ".dist-info/" not in name:
            raise BuildError(
                f"{origin}: {name} differs from the file of that name in another wheel, so that "
                "no one tree can serve all interpreters. Pin a release whose wheels agree, or "
                "leave the file out in zipapp.spec."
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def lay_sources(spec: Spec, tree: Path) -> None:
    """Copy our own files into the tree."""
    for pattern in spec.sources:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            if not spec.is_left_out(name):
                lay(tree, name, path.read_bytes(), origin="zipapp.spec")


def pack(spec: Spec, tree: Path, target: Path) -> str:
    """Pack the tree into the target and put the start in front; return the id of the content."""
    for path in tree.rglob("*"):
        path.chmod(
            0o755 if path.is_dir() else 0o644
        )  # The umask of whoever builds must not show in the file.
    environment = Environment(
        built_at="{}-{:02}-{:02} {:02}:{:02}:{:02}".format(*DATE),
        shiv_version=shiv_version,
        compile_pyc=False,
        reproducible=True,
        entry_point=spec.entry_point,
    )
    create_archive(
        [tree], target, spec.shebang, f"{START_MODULE}:main", environment, compressed=True
    )
    build_id: str | None = environment.build_id
    assert build_id is not None, "shiv names every build after the hash of its content"
    start = (ROOT / "scripts" / f"{START_MODULE}.py").read_text()
    for placeholder, value in (
        ("@BUILD_ID@", build_id),
        ("@ENTRY_POINT@", spec.entry_point),
        ("@PYTHONS@", " ".join(spec.pythons)),
    ):
        assert start.count(placeholder) == 1, placeholder
        start = start.replace(placeholder, value)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(zipfile.ZipInfo(f"{START_MODULE}.py", DATE), start, zipfile.ZIP_DEFLATED)
    return build_id


def build(target: Path) -> str:
    """Build the file and return the id of its content; the target is replaced only on success."""
    spec = read_spec()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="loomproxy-build-", dir=target.parent) as temporary:
        tree = Path(temporary) / "tree"
        lay_wheels(spec, tree)
        lay_sources(spec, tree)
        fresh = Path(temporary) / target.name
        build_id = pack(spec, tree, fresh)
        fresh.chmod(0o755)
        shutil.move(fresh, target)
    return build_id


def main() -> int:
    """Build as the command line says; 0 when the file is there, 1 with a message when it is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", type=Path, default=ROOT / "dist" / "loomproxy.pyz")
    target = parser.parse_args().target
    try:
        build_id = build(target)
    except (BuildError, msgspec.ValidationError, OSError) as problem:
        print(f"build-zipapp: {problem}", file=sys.stderr)
        return 1
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    print(
        f"{target}: {target.stat().st_size / 1e6:.1f} MB, content {build_id[:16]}, sha256 {digest}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
