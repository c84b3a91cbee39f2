"""Contexts are made once for each way in which pools want endpoints to prove themselves."""

import shutil
import ssl
from pathlib import Path

import pytest

from loomproxy.config.trust import UntrustworthyError
from loomproxy.core.endpoint import Address, EjectionPolicy, Endpoint, EndpointSpec, TlsSpec
from loomproxy.core.pool import PoolSpec
from loomproxy.worker.secure import Secure
from tests.support.authority import Authority

PLAIN = EndpointSpec(Address("a.example", 80))
SECURED = EndpointSpec(Address("a.example", 443, tls=True))


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    return Authority(tmp_path).file


def pool(tls: TlsSpec, *endpoints: EndpointSpec) -> PoolSpec:
    return PoolSpec("app", endpoints or (PLAIN, SECURED), tls=tls)


def towards(secure: Secure, tls: TlsSpec, spec: EndpointSpec = SECURED) -> ssl.SSLContext:
    context = secure.towards(Endpoint(spec, EjectionPolicy(), tls))["ssl"]
    assert isinstance(context, ssl.SSLContext)
    return context


def test_without_tls_nothing_is_needed(tmp_path: Path) -> None:
    secure = Secure()
    nowhere = TlsSpec(ca_file=str(tmp_path / "none"))
    secure.prepare([pool(nowhere, PLAIN)])
    assert secure.towards(Endpoint(PLAIN, EjectionPolicy(), nowhere)) == {}


def test_pools_that_trust_alike_share_a_context_while_its_files_stay(trusted: Path) -> None:
    secure, spec = Secure(), TlsSpec(ca_file=str(trusted))
    secure.prepare([pool(spec), pool(spec), pool(TlsSpec(verify=False))])
    made = towards(secure, spec)
    assert towards(secure, spec) is made
    assert towards(secure, TlsSpec(verify=False)) is not made
    secure.prepare([pool(spec)])
    assert towards(secure, spec) is made
    shutil.copy(trusted, trusted.with_suffix(".new"))
    trusted.with_suffix(".new").replace(trusted)
    assert towards(secure, spec) is made  # until something is published
    secure.prepare([pool(spec)])
    assert towards(secure, spec) is not made


def test_name_is_that_of_the_address_unless_another_is_configured(trusted: Path) -> None:
    secure, spec = Secure(), TlsSpec(ca_file=str(trusted))
    named = TlsSpec(ca_file=str(trusted), server_name="b.example")
    secure.prepare([pool(spec), pool(named)])
    for tls, name in ((spec, "a.example"), (named, "b.example")):
        asked = secure.towards(Endpoint(SECURED, EjectionPolicy(), tls))
        assert asked["server_hostname"] == name


def test_file_that_is_spoilt_changes_nothing(trusted: Path) -> None:
    secure, spec = Secure(), TlsSpec(ca_file=str(trusted))
    secure.prepare([pool(spec)])
    made = towards(secure, spec)
    trusted.write_text("spoilt")
    with pytest.raises(UntrustworthyError, match=r"pools\.app\.tls\.ca_file"):
        secure.prepare([pool(spec)])
    assert towards(secure, spec) is made
    # Nor does it stand against others who publish something.
    secure.prepare([pool(spec)], as_before=True)
    assert towards(secure, spec) is made


def test_system_that_trusts_nobody_is_told_of_by_who_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nothing"))
    secure = Secure()
    secure.prepare([pool(TlsSpec()), pool(TlsSpec(verify=False))])
    with pytest.raises(ssl.SSLError, match="this system trusts nobody"):
        towards(secure, TlsSpec())
    assert towards(secure, TlsSpec(verify=False)).verify_mode is ssl.CERT_NONE


def test_context_that_is_missing_is_made_once_or_not_at_all(trusted: Path) -> None:
    secure, spec = Secure(), TlsSpec(ca_file=str(trusted))
    assert towards(secure, spec) is towards(secure, spec)  # for an exchange of an older revision
    nowhere = TlsSpec(ca_file=str(trusted.with_name("none")))
    for _ in range(2):
        with pytest.raises(ssl.SSLError, match=r"tls\.ca_file: .*none cannot be read"):
            towards(secure, nowhere)
    shutil.copy(trusted, trusted.with_name("none"))
    with pytest.raises(ssl.SSLError, match="cannot be read"):
        towards(secure, nowhere)  # Not read for each connection.
    secure.prepare([pool(nowhere)])
    assert towards(secure, nowhere).verify_mode is ssl.CERT_REQUIRED
