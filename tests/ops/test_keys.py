"""The keys of a deployment: made once, renewed on request, good for what they are for."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from mrff.ops.keys import KeyFolderError, make_keys
from mrff.wire.aggregation.secure.identity import identity_of

SECURE_FILES = ("secure.key", "secure-roster.json")


def test_every_party_gets_its_own_folder(tmp_path: Path) -> None:
    make_keys(tmp_path, nodes=2)
    party = {"ca.crt", "server.crt", "server.key", "superexec.secret"}
    assert {p.name for p in (tmp_path / "superlink").iterdir()} == party
    for node in ("node-0", "node-1"):
        own = {"auth.key", "auth.pub", "secure.key", "secure-roster.json"}
        assert {p.name for p in (tmp_path / node).iterdir()} == party | own
    assert {p.name for p in (tmp_path / "public").iterdir()} == {
        "ca.crt",
        "node-0.pub",
        "node-1.pub",
    }
    secrets = [p for p in tmp_path.rglob("*") if p.suffix in (".key", ".secret")]
    # CA; certificate key, two secrets; node keys; keys of secure sums, twice
    assert len(secrets) == 1 + 3 * 3 + 2 + 2 * 2
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in secrets)
    assert len({p.read_bytes() for p in secrets}) == len(secrets) - 3 - 2
    for party_name in ("superlink", "node-0", "node-1"):
        executor = tmp_path / f"{party_name}-executor"
        secure = set() if party_name == "superlink" else {"secure.key", "secure-roster.json"}
        assert {p.name for p in executor.iterdir()} == {"ca.crt", "superexec.secret"} | secure
        own = (tmp_path / party_name / "superexec.secret").read_bytes()
        assert (executor / "superexec.secret").read_bytes() == own


def test_a_second_call_changes_nothing_and_a_new_node_adds_its_own(tmp_path: Path) -> None:
    assert make_keys(tmp_path, nodes=1)
    assert make_keys(tmp_path, nodes=1) == ()
    added = make_keys(tmp_path, nodes=2)
    assert added
    assert all("node-1" in name or name.endswith("secure-roster.json") for name in added)


def test_renewal_keeps_the_ca_and_the_rest(tmp_path: Path) -> None:
    make_keys(tmp_path, nodes=1)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def changed() -> set[str]:
        return {str(p.relative_to(tmp_path)) for p, old in before.items() if p.read_bytes() != old}

    make_keys(tmp_path, nodes=1, renew=["certificates"])
    server = {
        f"{party}/server.{kind}" for party in ("superlink", "node-0") for kind in ("crt", "key")
    }
    assert changed() == server
    make_keys(tmp_path, nodes=1, renew=["node-keys"])
    node = {"node-0/auth.key", "node-0/auth.pub", "public/node-0.pub"}
    assert changed() == server | node
    make_keys(tmp_path, nodes=1, renew=["secure-keys"])
    secure = {f"{p}/{f}" for p in ("node-0", "node-0-executor") for f in SECURE_FILES}
    assert changed() == server | node | secure


def test_the_roster_names_every_node_and_each_key_is_in_it_once(tmp_path: Path) -> None:
    make_keys(tmp_path, nodes=2)
    make_keys(tmp_path, nodes=1)  # a smaller number later forgets nobody
    for node in ("node-0", "node-1"):
        settings = {
            "secure-key": str(tmp_path / node / "secure.key"),
            "secure-roster": str(tmp_path / f"{node}-executor" / "secure-roster.json"),
        }
        who = identity_of(settings)
        assert who.name == node
        assert who.roster is not None
        assert who.roster.keys() == {"node-0", "node-1"}


def test_a_new_host_name_makes_a_new_certificate(tmp_path: Path) -> None:
    make_keys(tmp_path, nodes=1)
    make_keys(tmp_path, nodes=1, superlink_hosts=["federation.example", "10.0.0.7"])
    certificate = x509.load_pem_x509_certificate((tmp_path / "superlink/server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "federation.example" in names.get_values_for_type(x509.DNSName)
    assert "10.0.0.7" in [str(ip) for ip in names.get_values_for_type(x509.IPAddress)]


def test_without_the_ca_key_nothing_is_mixed(tmp_path: Path) -> None:
    make_keys(tmp_path, nodes=1)
    (tmp_path / "ca/ca.key").unlink()
    with pytest.raises(KeyFolderError, match=r"ca\.key is missing"):
        make_keys(tmp_path, nodes=2)


def test_authentication_keys_are_a_pair_in_the_format_flower_reads(tmp_path: Path) -> None:
    make_keys(tmp_path, nodes=1)
    private = load_ssh_private_key((tmp_path / "node-0/auth.key").read_bytes(), None)
    public = load_ssh_public_key((tmp_path / "public/node-0.pub").read_bytes())
    assert private.public_key() == public


def test_a_client_with_the_ca_trusts_the_server_and_one_with_another_does_not(
    tmp_path: Path,
) -> None:
    make_keys(tmp_path / "ours", nodes=1)
    make_keys(tmp_path / "others", nodes=1)
    assert _handshake(tmp_path / "ours/superlink", tmp_path / "ours/public/ca.crt") == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path / "ours/superlink", tmp_path / "others/public/ca.crt")


def _handshake(party: Path, ca: Path) -> str | None:
    """A TLS handshake over a pair of sockets; the protocol version agreed on."""
    server_end, client_end = socket.socketpair()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(party / "server.crt", party / "server.key")

    def serve() -> None:
        try:
            server.wrap_socket(server_end, server_side=True).close()
        except OSError:
            server_end.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client = ssl.create_default_context(cafile=ca)
        client.verify_flags |= ssl.VERIFY_X509_STRICT
        with client.wrap_socket(client_end, server_hostname="localhost") as connection:
            return connection.version()
    finally:
        client_end.close()
        thread.join()
