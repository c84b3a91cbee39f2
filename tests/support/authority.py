"""A certificate authority for tests: real certificates, made by the `openssl` command."""

import ssl
import subprocess
import warnings
from pathlib import Path
from typing import Final

KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
"""A key that is made at once."""


class Authority:
    """A CA whose files are in `directory`; the names of a certificate are told apart by commas."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = self._self_signed("ca", "basicConstraints=critical,CA:TRUE")

    def certificate(
        self, name: str, names: str = "DNS:localhost,IP:127.0.0.1", *, days: int = 2
    ) -> Path:
        """A certificate for `names`, with its key in the same file; `days=-1`: it has expired."""
        request, key = self._path(name, "csr"), self._path(name, "key")
        _openssl("req", "-new", *KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        extensions = self._path(name, "ext")
        extensions.write_text(f"subjectAltName={names}\n")
        signed = self._path(name, "crt")
        signer = ("-CA", self.file, "-CAkey", self._path("ca", "key"), "-CAcreateserial")
        _openssl(
            *("x509", "-req", "-in", request, *signer, "-extfile", extensions),
            *("-days", str(days), "-out", signed),
        )
        return self._together(name)

    def self_signed(self, name: str, names: str = "DNS:localhost,IP:127.0.0.1") -> Path:
        """A certificate that nobody signed but itself, with its key."""
        self._self_signed(name, f"subjectAltName={names}")
        return self._together(name)

    def locked(self, name: str, path: Path) -> Path:
        """The key of `name` again, at `path`, with a passphrase."""
        _openssl(
            "pkey", "-in", self._path(name, "key"), "-aes128", "-passout", "pass:x", "-out", path
        )
        return path

    def server(self, certificate: Path, *, ask: bool = False) -> ssl.SSLContext:
        """What a server with `certificate` uses; `ask`: clients need one of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.set_alpn_protocols(["h2", "http/1.1"])
        if ask:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.file)
        return context

    def old_server(self, certificate: Path) -> ssl.SSLContext:
        """What a server uses that speaks TLS 1.1 at most."""
        context = self.server(certificate)
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        return context

    def _self_signed(self, name: str, extension: str) -> Path:
        key, signed = self._path(name, "key"), self._path(name, "crt")
        _openssl(
            *("req", "-x509", *KEY, "-keyout", key, "-out", signed, "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", extension),
        )
        return signed

    def _together(self, name: str) -> Path:
        whole = self._path(name, "pem")
        whole.write_text(self._path(name, "crt").read_text() + self._path(name, "key").read_text())
        return whole

    def _path(self, name: str, suffix: str) -> Path:
        return self.directory / f"{name}.{suffix}"


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(("openssl", *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"openssl {arguments}: {done.stderr}"
