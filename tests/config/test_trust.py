"""Files with certificates: what makes a context, and what is said of those that cannot."""

import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from loomproxy.config.load import parse
from loomproxy.config.model import Config
from loomproxy.config.trust import (
    PEM_BYTES_MAX,
    UntrustworthyError,
    check_files,
    client_context,
    reason_of,
    stamp,
)
from loomproxy.core.endpoint import TLS_OF_SYSTEM, TlsSpec
from tests.support.authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.certificate("me")
    made.certificate("other")
    return made


def refused(**tls: Any) -> str:
    with pytest.raises(UntrustworthyError) as caught:
        client_context(TlsSpec(**{key: str(value) for key, value in tls.items()}))
    return str(caught.value)


# ---- What is good. -------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [True, False])
def test_a_context_checks_names_unless_told_not_to(authority: Authority, verify: bool) -> None:
    spec = TlsSpec(ca_file=str(authority.file)) if verify else TlsSpec(verify=False)
    context = client_context(spec)
    assert context.check_hostname is verify
    assert context.verify_mode is (ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT  # alike on every Python


def test_with_a_file_nobody_else_is_trusted(authority: Authority) -> None:
    (trusted,) = client_context(TlsSpec(ca_file=str(authority.file))).get_ca_certs()
    assert trusted["subject"] == ((("commonName", "ca"),),)


def test_the_key_stands_in_the_file_of_the_certificate_or_in_its_own(authority: Authority) -> None:
    place = authority.directory
    ca = str(authority.file)
    client_context(TlsSpec(ca_file=ca, client_certificate=str(place / "me.pem")))
    apart = TlsSpec(
        ca_file=ca, client_certificate=str(place / "me.crt"), client_key=str(place / "me.key")
    )
    client_context(apart)


# ---- What is not. --------------------------------------------------------------------------------


def test_files_that_cannot_be_read_or_are_none(tmp_path: Path, authority: Authority) -> None:
    assert refused(ca_file=tmp_path / "none") == (
        f"ca_file: {tmp_path}/none cannot be read (No such file or directory); expected a readable "
        "file of at most 4 MiB. Check its path, mode and contents."
    )
    assert "cannot be read (Is a directory)" in refused(ca_file=tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is no regular file" in refused(client_certificate=tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"\n" * (PEM_BYTES_MAX + 1))
    assert "large is larger; expected" in refused(ca_file=tmp_path / "large")
    certificate = authority.directory / "me.crt"
    assert refused(client_certificate=certificate, client_key=tmp_path / "none").startswith(
        f"client_key: {tmp_path}/none cannot be read"
    )


def test_files_that_hold_something_else(tmp_path: Path, authority: Authority) -> None:
    place, noise = authority.directory, tmp_path / "noise"
    noise.write_text("-----BEGIN CERTIFICATE-----\nnoise\n-----END CERTIFICATE-----\n")
    assert refused(ca_file=noise).startswith(f"ca_file: {noise} cannot be used (")
    noise.write_bytes(bytes(range(256)))
    assert refused(ca_file=noise).startswith(f"ca_file: {noise} cannot be used (")
    assert refused(client_certificate=noise).startswith(
        f"client_certificate: {noise} holds no certificate; expected a certificate in PEM"
    )
    assert refused(client_certificate=place / "me.crt").startswith(
        f"client_certificate: {place}/me.crt holds no key; expected its private key"
    )


def test_a_key_to_another_certificate(authority: Authority) -> None:
    place = authority.directory
    said = refused(client_certificate=place / "me.crt", client_key=place / "other.key")
    assert said.startswith(f"client_key: {place}/other.key cannot be used with {place}/me.crt (")
    assert "key values mismatch" in said


def test_a_key_with_a_passphrase_is_not_asked_for(tmp_path: Path, authority: Authority) -> None:
    key = authority.locked("me", tmp_path / "locked.key")
    said = refused(client_certificate=authority.directory / "me.crt", client_key=key)
    assert "(it has a passphrase)" in said


def test_nobody_is_trusted_where_the_system_trusts_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nothing"))
    assert "this system trusts nobody" in refused()
    client_context(TlsSpec(verify=False))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert "this system trusts nobody" in refused()
    (tmp_path / "0a775a30.0").touch()  # A folder is read when somebody is looked for.
    client_context(TLS_OF_SYSTEM)


# ---- A whole configuration. ----------------------------------------------------------------------


def config(**pools: Any) -> Config:
    made = parse(
        json.dumps(
            {
                "listeners": [{"name": "public", "address": ":8080"}],
                "pools": pools,
                "routes": [{"pool": next(iter(pools))}],
            }
        ),
        "a.json",
        {},
    )
    assert isinstance(made, Config), str(made)
    return made


def test_each_pool_that_names_files_is_told_of(authority: Authority) -> None:
    https, http = ["https://a"], ["http://a"]
    none = {"ca_file": "/none"}
    good = {"endpoints": https, "tls": {"ca_file": str(authority.file)}}
    plain = {"endpoints": http, "tls": none}  # They would be needed with its first https://.
    found = check_files(config(a=good, b={"endpoints": https, "tls": none}, c=plain))
    assert [problem.path for problem in found] == ["pools.b.tls.ca_file", "pools.c.tls.ca_file"]
    assert check_files(config(a={"endpoints": http})) == []


# ---- What changes, and why it failed. ------------------------------------------------------------


def test_stamp_changes_with_any_file(tmp_path: Path) -> None:
    names = ("ca_file", "client_certificate", "client_key")
    spec = TlsSpec(**{name: str(tmp_path / name) for name in names})
    seen = {stamp(spec)}
    for count, name in enumerate(names, 2):
        (tmp_path / name).write_text(name)
        seen.add(stamp(spec))
        assert len(seen) == count
    assert stamp(spec) in seen
    assert stamp(TLS_OF_SYSTEM) == stamp(TLS_OF_SYSTEM)


def test_reasons_are_words() -> None:
    untrusted = ssl.SSLCertVerificationError(1, "[SSL: X] failed: expired (_ssl.c:1006)")
    untrusted.verify_message = "certificate has expired"
    assert reason_of(untrusted) == "certificate has expired"
    assert reason_of(ssl.SSLError(1, "no context")) == "no context"
    refused_call = ConnectionRefusedError(111, "Connection refused")
    assert reason_of(refused_call) == "[Errno 111] Connection refused"
    assert reason_of(UnicodeError("label too long")) == "label too long"
    assert reason_of(ConnectionResetError()) == "ConnectionResetError"
