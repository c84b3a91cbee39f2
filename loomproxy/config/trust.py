"""TLS to endpoints: from what a pool says of it to the context that its connections share.

The one place where certificates and keys are read. A context is made when a configuration is
published, never for a connection: so what is wrong with a file is said by `loomproxy check` and by
a reload, with the key that names it, and not by the first request.

The rules are those of `ssl.create_default_context`, but for two. TLS is 1.2 or later, whatever the
system allows. And a CA is taken that nginx and HAProxy take: Python 3.13 refuses the many private
ones without an authority key identifier (`VERIFY_X509_STRICT`), earlier ones do not, and the proxy
shall behave the same on all of them.
"""

import os
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from loomproxy.config.address import endpoint_address
from loomproxy.config.compile import tls_spec
from loomproxy.config.model import Config, Pool
from loomproxy.config.problem import Problem
from loomproxy.config.walk import joined
from loomproxy.core.endpoint import TLS_OF_SYSTEM, TlsSpec

PEM_BYTES_MAX: Final = 4 << 20
"""Of a file with certificates or a key. All that browsers trust takes a quarter of a MiB."""

ALPN: Final = ("http/1.1",)
"""What we say that we speak (RFC 7301): some servers speak HTTP/2 to whoever says nothing."""

Stamp = tuple[tuple[int, ...], ...]
"""When and as what each file of a context was seen."""


class UntrustworthyError(ValueError):
    """A context that cannot be made; `problem` says why, its path is a key of `tls`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    def of_pool(self, name: str) -> "UntrustworthyError":
        """The same, with the whole path of the key."""
        path = f"{joined('pools', name)}.tls.{self.problem.path}"
        return UntrustworthyError(msgspec.structs.replace(self.problem, path=path))


def check_files(config: Config) -> list[Problem]:
    """What is wrong with the files that pools name for TLS."""
    pools = config.dynamic.pools.items()
    return [problem for name, pool in pools for problem in _pool(name, pool)]


def _pool(name: str, pool: Pool) -> Iterator[Problem]:
    spec = tls_spec(pool.tls)
    secured = any(endpoint_address(each.address).tls for each in pool.endpoints)
    if not secured and spec == TLS_OF_SYSTEM:
        return
    try:
        client_context(spec)
    except UntrustworthyError as error:
        yield error.of_pool(name).problem


def client_context(spec: TlsSpec) -> ssl.SSLContext:
    """What all connections of one pool share; raise UntrustworthyError where a file is wrong."""
    if spec.ca_file:
        _look_at(spec.ca_file, "ca_file")
    try:
        context = ssl.create_default_context(cafile=spec.ca_file or None)
    except (OSError, ValueError) as error:
        seen = f"{spec.ca_file} cannot be used ({reason_of(error)})"
        raise _untrustworthy("ca_file", seen, "certificates in PEM") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(ALPN)
    if not spec.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not spec.ca_file and not _system_trusts_anybody(context):
        raise UntrustworthyError(
            Problem(
                "ca_file",
                "it is empty, and this system trusts nobody",
                "certificates of those who are trusted",
                "Install ca-certificates, or name a file.",
            )
        )
    if spec.client_certificate:
        _show(context, spec)
    return context


def _show(context: ssl.SSLContext, spec: TlsSpec) -> None:
    """Have `context` show our certificate to who asks for it."""
    certificate, key = spec.client_certificate, spec.client_key or spec.client_certificate
    named = "client_key" if spec.client_key else "client_certificate"
    if b"-----BEGIN CERTIFICATE-----" not in _look_at(certificate, "client_certificate"):
        seen = f"{certificate} holds no certificate"
        raise _untrustworthy("client_certificate", seen, "a certificate in PEM")
    if b"PRIVATE KEY-----" not in _look_at(key, named):
        raise _untrustworthy(named, f"{key} holds no key", "its private key in PEM")
    try:
        context.load_cert_chain(certificate, key, _no_passphrase)
    except (OSError, ValueError) as error:
        seen = f"{key} cannot be used with {certificate} ({reason_of(error)})"
        raise _untrustworthy(named, seen, "the key to that certificate") from None


def _no_passphrase() -> str:
    """Nobody is there to type one; without this, OpenSSL would ask at the terminal."""
    raise ValueError("it has a passphrase")


def _look_at(path: str, key: str) -> bytes:
    """What a file holds; OpenSSL would wait for a FIFO, and read a device for ever."""
    expected = f"a readable file of at most {PEM_BYTES_MAX >> 20} MiB"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _untrustworthy(key, f"{path} is no regular file", expected)
            data = file.read(PEM_BYTES_MAX + 1)
    except OSError as error:
        raise _untrustworthy(key, f"{path} cannot be read ({error.strerror})", expected) from None
    if len(data) > PEM_BYTES_MAX:
        raise _untrustworthy(key, f"{path} is larger", expected)
    return data


def _untrustworthy(key: str, seen: str, expected: str) -> UntrustworthyError:
    return UntrustworthyError(Problem(key, seen, expected, "Check its path, mode and contents."))


def _system_trusts_anybody(context: ssl.SSLContext) -> bool:
    """Certificates in a folder are read by OpenSSL when one is looked for, so none are counted."""
    folder = Path(ssl.get_default_verify_paths().capath or "/nonexistent")
    return context.cert_store_stats()["x509_ca"] > 0 or (folder.is_dir() and any(folder.iterdir()))


def stamp(spec: TlsSpec) -> Stamp:
    """What changes when a file of `spec` does: a context with the same stamp is as good as new."""
    system = ssl.get_default_verify_paths()
    paths = [spec.client_certificate, spec.client_key]
    paths += [spec.ca_file] if spec.ca_file else [system.cafile or "", system.capath or ""]
    return tuple(_stamp(path) for path in paths)


def _stamp(path: str) -> tuple[int, ...]:
    try:
        seen = Path(path).stat()
    except OSError:
        return ()
    return seen.st_mtime_ns, seen.st_size, seen.st_ino, seen.st_dev


def reason_of(error: Exception) -> str:
    """Why TLS, or what it stands on, failed: in words, without lines of OpenSSL's source."""
    # Only what OpenSSL raised has these.
    verdict: str = getattr(error, "verify_message", "")
    named: str = getattr(error, "reason", "") or ""
    if verdict:
        return verdict
    if isinstance(error, ssl.SSLError) and named:
        reason = named.replace("_", " ").lower()
        return f"{reason}: it does not speak TLS" if reason in _OTHER_TONGUE else reason
    return str(error) or type(error).__name__


_OTHER_TONGUE: Final = ("wrong version number", "http request", "record layer failure")
