"""Certificates and keys of a deployment: one folder per party, made once, renewed on request::

    ca/         ca.crt, ca.key          stays with whoever runs the federation
    public/     ca.crt, node-*.pub      what registering the nodes takes; nothing secret
    superlink/  ca.crt, server.crt, server.key, superexec.secret
    node-N/     the same, and auth.key, auth.pub: who the node is
    superlink-executor/, node-N-executor/   ca.crt, superexec.secret: for a process that runs apps
    node-N/, node-N-executor/   secure.key, secure-roster.json: who the node is in secure sums

A party needs its own folder and no other. An executor runs code that others wrote: it has the
secret that lets it fetch work, and neither a certificate's key nor the node's. The app signs with a
key of its own (Flower gives it none), and knows the other nodes by the roster, not by the server:
bring the roster to the nodes yourself. Keys are made by
``cryptography``, which Flower depends on: neither openssl nor ssh-keygen has to be installed.
"""

from __future__ import annotations

import ipaddress
import secrets
from base64 import b64encode
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mrff.io.files import json_bytes, write_bytes

CA_DAYS = 3650
SERVER_DAYS = 365
RENEW_BEFORE = timedelta(days=30)
SUPERLINK = "superlink"
LOOPBACK = ("localhost", "127.0.0.1")
RENEWABLE = CERTIFICATES, NODE_KEYS, SECURE_KEYS = "certificates", "node-keys", "secure-keys"


class KeyFolderError(ValueError):
    """A folder of keys that cannot be used as it is."""


def node_name(node: int) -> str:
    """The folder, and in the container demo the host name, of a node counted from 0."""
    return f"node-{node}"


def make_keys(
    folder: Path,
    *,
    nodes: int,
    superlink_hosts: Sequence[str] = (),
    node_hosts: Sequence[str] = (),
    renew: Collection[str] = (),
) -> tuple[str, ...]:
    """Makes what is missing or about to expire in ``folder`` and leaves the rest alone.

    Returns the files that it wrote, as paths below the folder.

    Args:
        superlink_hosts: names and addresses under which others reach the SuperLink; ``superlink``
            and those of the loopback are always among them.
        node_hosts: the same for every node's own runtime port, if its executors run on another
            host; ``node-N`` and those of the loopback are always among them.
        renew: of `RENEWABLE`, what is made anew although it is there. Server certificates get a
            new key, the CA stays; nodes with new keys must be registered again. After new secure
            keys every node needs the new roster.

    Raises:
        KeyFolderError: certificates are there but the CA's key that made them is not.
    """
    if nodes < 1:
        raise KeyFolderError(f"nodes must be at least 1, got {nodes}")
    writer = _Writer(folder)
    authority = _authority(folder, writer)
    writer.put("public/ca.crt", authority.pem)
    hosts = {SUPERLINK: (SUPERLINK, *LOOPBACK, *superlink_hosts)}
    hosts |= {node_name(n): (node_name(n), *LOOPBACK, *node_hosts) for n in range(nodes)}
    for party, names in hosts.items():
        writer.put(f"{party}/ca.crt", authority.pem)
        certificate = folder / party / "server.crt"
        if CERTIFICATES in renew or not _serves(certificate, names, authority):
            key = ec.generate_private_key(ec.SECP256R1())
            writer.put(f"{party}/server.key", _private_pem(key), secret=True)
            writer.put(f"{party}/server.crt", authority.certificate_for(key, names))
        secret = folder / party / "superexec.secret"
        if not secret.exists():
            writer.put(f"{party}/superexec.secret", secrets.token_hex(32).encode(), secret=True)
        writer.put(f"{party}-executor/ca.crt", authority.pem)
        writer.put(f"{party}-executor/superexec.secret", secret.read_bytes(), secret=True)
    for node in range(nodes):
        _authentication_key(folder, node_name(node), writer, renew=NODE_KEYS in renew)
    _secure_keys(folder, nodes, writer, renew=SECURE_KEYS in renew)
    return tuple(writer.written)


@dataclass(frozen=True)
class _Authority:
    """The federation's own certificate authority."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def certificate_for(self, key: ec.EllipticCurvePrivateKey, hosts: Sequence[str]) -> bytes:
        """A server certificate for ``hosts`` (names or addresses), PEM."""
        names = [_general_name(host) for host in dict.fromkeys(hosts)]
        builder = (
            _builder(hosts[0], self.certificate.subject, key.public_key(), SERVER_DAYS)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = builder.add_extension(issuer, critical=False).sign(self.key, hashes.SHA256())
        return certificate.public_bytes(Encoding.PEM)


def _authority(folder: Path, writer: _Writer) -> _Authority:
    key_file, certificate_file = folder / "ca/ca.key", folder / "ca/ca.crt"
    if key_file.exists() and certificate_file.exists():
        key = load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise KeyFolderError(f"{key_file} must hold an elliptic-curve key")
        return _Authority(key, x509.load_pem_x509_certificate(certificate_file.read_bytes()))
    if certificate_file.exists() or (folder / "public/ca.crt").exists():
        raise KeyFolderError(
            f"{folder} has certificates, but {key_file} is missing: bring the CA's key back to add "
            "to them, or start in another folder (every party then needs its new one)"
        )
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MRFF federation CA")])
    usage = x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder("MRFF federation CA", name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    made = _Authority(key, certificate)
    writer.put("ca/ca.key", _private_pem(key), secret=True)
    writer.put("ca/ca.crt", made.pem)
    return made


def _authentication_key(folder: Path, party: str, writer: _Writer, *, renew: bool) -> None:
    """A NIST P-384 key in OpenSSH's format, the only family of curves that Flower takes."""
    public = folder / party / "auth.pub"
    if renew or not public.exists():
        key = ec.generate_private_key(ec.SECP384R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        writer.put(f"{party}/auth.key", private, secret=True)
        content = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
        writer.put(f"{party}/auth.pub", content)
    writer.put(f"public/{party}.pub", public.read_bytes())


def _secure_keys(folder: Path, nodes: int, writer: _Writer, *, renew: bool) -> None:
    """An Ed25519 key per node, and the roster of all of them, also of those made before."""
    for node in range(nodes):
        path = folder / node_name(node) / "secure.key"
        if renew or not path.exists():
            content = _private_pem(ed25519.Ed25519PrivateKey.generate())
            writer.put(f"{node_name(node)}/secure.key", content, secret=True)
        writer.put(f"{node_name(node)}-executor/secure.key", path.read_bytes(), secret=True)
    roster = {}
    for path in sorted(folder.glob("node-*/secure.key")):
        key = load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise KeyFolderError(f"{path} must hold an Ed25519 key; remove it to have it made anew")
        if not path.parent.name.endswith("-executor"):
            public = key.public_key().public_bytes_raw()
            roster[path.parent.name] = b64encode(public).decode()
    for party in (name for node in roster for name in (node, f"{node}-executor")):
        writer.put(f"{party}/secure-roster.json", json_bytes(roster))


def _serves(file: Path, hosts: Sequence[str], authority: _Authority) -> bool:
    """Whether the certificate is of this CA, valid for a while and for all of ``hosts``."""
    if not (file.exists() and file.with_suffix(".key").exists()):
        return False
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except Exception:  # a signature that does not fit, or another issuer's name
        return False
    lasts = certificate.not_valid_after_utc - datetime.now(UTC) > RENEW_BEFORE
    return lasts and {_general_name(host) for host in hosts} <= set(names)


def _builder(
    common_name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of hosts differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class _Writer:
    """Writes below a folder, each file in one step; notes what changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written: list[str] = []

    def put(self, name: str, content: bytes, *, secret: bool = False) -> None:
        path = self._folder / name
        if path.exists() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)  # readable by us alone
        if not secret:
            path.chmod(0o644)
        self.written.append(name)
