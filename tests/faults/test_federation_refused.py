"""Who is kept out of a federation, by real processes: strangers, revoked stores, plaintext, an old
certificate. Marked slow."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from privemo.config import PrivacySettings, RunSettings
from privemo.federation.authority import issue
from privemo.federation.doorkeeper import fingerprint
from privemo.federation.identity import StoreCard, enroll
from privemo.federation.server import init_federation
from tests.support.deployed import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = ("amber", "birch", "cedar")
LET_IN = "SuperNode ID"


def own_address() -> str | None:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))
        except OSError:
            return None
        found = str(one.getsockname()[0])
    return None if found.startswith("127.") else found


class Gate:
    """A server, and stores that have keys and nothing else: nobody trains here."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.chain = folder, folder / "chain"
        self.processes: list[subprocess.Popen[bytes]] = []
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = int(one.getsockname()[1])
        settings = RunSettings.of(
            stores=3,
            rounds=2,
            steps_per_round=1,
            privacy=PrivacySettings(sample_rate=0.5, noise="distributed", may_drop=0.4),
            declared_people=10,
            model="gray-cnn",
            init="scratch",
        )
        cards = [enroll(folder / name, name) for name in NAMES]
        hosts = ["127.0.0.1", *filter(None, [own_address()])]
        init_federation(self.chain, cards, settings, hosts=hosts, port=self.port)
        self.authority = self.chain / "tls" / "authority.pem"
        for name in NAMES:
            self.invited(name)

    def invited(self, name: str) -> Path:
        """A store's folder that knows where the server is, and how to know it."""
        folder = self.folder / name
        enroll(folder, name)
        (folder / "authority.pem").write_bytes(self.authority.read_bytes())
        told = {"schema": "privemo.joined/1", "store": name, "address": f"127.0.0.1:{self.port}"}
        (folder / "joined.json").write_text(json.dumps(told))
        return folder

    def start(self, *arguments: str | Path, log: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        with (self.folder / log).open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *map(str, arguments)],
                stdout=file,
                stderr=file,
                env={**os.environ, "PATH": path},  # Flower's server starts another of its commands
            )
        self.processes.append(process)
        return process

    def serve(self) -> subprocess.Popen[bytes]:
        before = self.said("server.log").count("Serving")
        server = self.start("privemo", "federation", "start", self.chain, log="server.log")
        until("the server is up", lambda: self.said("server.log").count("Serving") > before)
        return server

    def join(self, name: str) -> subprocess.Popen[bytes]:
        folder = self.folder / name
        return self.start("privemo", "federation", "join", folder, log=f"{name}.log")

    def said(self, log: str) -> str:
        path = self.folder / log
        return " ".join(path.read_text().split()) if path.exists() else ""

    def node_said(self, name: str) -> str:
        return self.said(f"{name}/flower/supernode.log")

    def server_said(self) -> str:
        return self.said("chain/flower/superlink.log")

    def key(self, name: str) -> str:
        """What the server's log calls a store's key."""
        card = StoreCard.read(self.folder / name / "card.json")
        public = serialization.load_ssh_public_key(card.node_key.encode())
        return fingerprint(
            public.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "privemo", "federation", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            process.wait(120)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_a_revoked_store_is_out_at_once_and_stays_out_of_a_server_that_starts_later(
    gate: Gate,
) -> None:
    server, amber, birch = gate.serve(), gate.join("amber"), gate.join("birch")
    until("both are in", lambda: all(LET_IN in gate.node_said(n) for n in ("amber", "birch")))
    done = gate.command("revoke", gate.chain, "amber")
    assert done.returncode == 0, done.stderr
    assert "amber is let in no more. 2 of 3 stores are left." in " ".join(done.stderr.split())
    assert amber.wait(240) == 2
    assert "or the store revoked?" in gate.said("amber.log")
    refusal = f"with key {gate.key('amber')}: amber was revoked."
    assert refusal in gate.server_said()
    told = json.loads(gate.command("status", gate.chain, "--json").stdout)
    assert (told["revoked"], told["online"]) == (["amber"], 1)
    assert birch.poll() is None
    again = gate.command("revoke", gate.chain, "amber")
    assert (again.returncode, "was revoked before" in again.stderr) == (2, True)
    nobody = gate.command("revoke", gate.chain, "../birch")
    assert (nobody.returncode, "lets no store" in nobody.stderr) == (2, True)

    server.terminate()
    assert server.wait(60) == 0
    refused = gate.server_said().count(refusal)
    gate.serve()
    assert "Serving 2 stores" in gate.said("server.log")
    before = gate.node_said("amber").count(LET_IN)
    assert gate.join("amber").wait(240) == 2
    assert gate.node_said("amber").count(LET_IN) == before
    assert gate.server_said().count(refusal) > refused
    until("birch came back", lambda: "Connection successful" in gate.node_said("birch"))


def test_strangers_a_false_authority_and_plaintext_are_refused_and_the_log_names_keys(
    gate: Gate,
) -> None:
    gate.serve()
    stranger = gate.invited("stranger")
    assert gate.join("stranger").wait(240) == 2
    assert "store's node key in no more, or never did" in gate.said("stranger.log")
    assert f"with key {gate.key('stranger')}: no store of this federation has it." in (
        gate.server_said()
    )
    # A store that was told of another authority than the server's: it does not talk to it at all.
    (gate.folder / "birch" / "authority.pem").write_bytes(issue(["127.0.0.1"]).authority)
    assert gate.join("birch").wait(240) == 2
    assert "certificate is not of the authority that the invitation named" in gate.said("birch.log")
    assert LET_IN not in gate.node_said("birch")
    assert "Refused a connection: it trusts another authority" in gate.server_said()
    # Flower's own command lets a node into its database, on this machine; the door holds all the same.
    (stranger / "node.pub").write_text(StoreCard.read(stranger / "card.json").node_key)
    flwr = [str(Path(sys.executable).with_name("flwr")), "supernode", "register"]
    done = subprocess.run(
        [*flwr, str(stranger / "node.pub"), "here"],
        env={**os.environ, "FLWR_HOME": str(gate.chain / "flower"), "FLWR_TELEMETRY_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "registered successfully" in done.stdout, done.stderr
    assert gate.join("stranger").wait(240) == 2
    assert LET_IN not in gate.node_said("stranger")

    # Without encryption Flower signs nothing, and the server answers nothing; its log says that one tried.
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        own = str(one.getsockname()[1])
    node = ("privemo.federation.daemons", "supernode", "--insecure", "--isolation", "process")
    plain = gate.start(
        *node, "--superlink", f"127.0.0.1:{gate.port}", "--port", own, log="plain.log"
    )
    told = "Refused a connection: it spoke HTTP without TLS."
    until("the server tells of it", lambda: told in gate.server_said())
    assert plain.poll() is None or "usage:" not in gate.said("plain.log")
    assert LET_IN not in gate.said("plain.log")
    assert "Activated node_id" not in gate.server_said()


def asked(gate: Gate, host: str, path: str) -> int:
    """What the server answers to a request without a key, over TLS that it proves itself by."""
    context = ssl.create_default_context(cafile=str(gate.authority))
    line = http.client.HTTPSConnection(host, gate.port, timeout=30, context=context)
    try:
        line.request("POST", path, b"", {"content-type": "application/protobuf"})
        return line.getresponse().status
    finally:
        line.close()


@pytest.mark.skipif(own_address() is None, reason="no address besides loopback")
def test_another_machine_commands_the_server_nothing(gate: Gate) -> None:
    gate.serve()
    elsewhere = own_address()
    assert elsewhere is not None
    for path in ("/v1/control/register-node", "/v1/control/start-run", "/v1/control/list-nodes"):
        assert asked(gate, elsewhere, path) == 404
        assert f"Refused {elsewhere}: {path!r} is for this machine alone." in gate.server_said()
    assert asked(gate, "127.0.0.1", "/v1/control/list-nodes") == 200
    assert asked(gate, elsewhere, "/v1/fleet/pull-messages") == 401
    assert f"Refused a node at {elsewhere}: it shows no key." in gate.server_said()


def expired(gate: Gate) -> None:
    """Give the server a certificate of its authority's kind that ran out an hour ago."""
    tls = gate.chain / "tls"
    now, folder = datetime.now(UTC), gate.folder
    old = x509.load_pem_x509_certificate((tls / "server.pem").read_bytes())
    root = x509.load_pem_x509_certificate(gate.authority.read_bytes())
    key = serialization.load_pem_private_key((tls / "server.key").read_bytes(), None)
    # The authority's key was thrown away: another one signs, and stores are told to trust it.
    from cryptography.hazmat.primitives.asymmetric import ec

    signer = ec.generate_private_key(ec.SECP384R1())

    def made(like: x509.Certificate, public: ec.EllipticCurvePublicKey, end: datetime) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(like.subject)
            .issuer_name(root.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(end)
        )
        ids = (x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier)
        for each in like.extensions:
            if not isinstance(each.value, ids):
                builder = builder.add_extension(each.value, each.critical)
        mine = x509.SubjectKeyIdentifier.from_public_key(signer.public_key())
        if like is root:
            builder = builder.add_extension(mine, critical=False)
        else:
            named = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(mine)
            builder = builder.add_extension(named, critical=False)
        return builder.sign(signer, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)

    assert isinstance(key, ec.EllipticCurvePrivateKey)
    (tls / "server.pem").write_bytes(made(old, key.public_key(), now - timedelta(hours=1)))
    gate.authority.write_bytes(made(root, signer.public_key(), now + timedelta(days=1)))
    for name in NAMES:
        (folder / name / "authority.pem").write_bytes(gate.authority.read_bytes())


def test_a_server_whose_certificate_has_run_out_is_refused(gate: Gate) -> None:
    expired(gate)
    tls = gate.chain / "tls"
    # `federation start` would end, and so would the SuperLink with what starts its apps: they do not trust
    # the server either. One whose certificate runs out while it serves goes on.
    certificates = (
        *("--ssl-ca-certfile", tls / "authority.pem", "--ssl-certfile", tls / "server.pem"),
        *("--ssl-keyfile", tls / "server.key"),
    )
    gate.start(
        *("privemo.federation.doorkeeper", gate.chain / "nodes", *certificates),
        *("--host", "127.0.0.1", "--port", str(gate.port), "--enable-supernode-auth"),
        *("--disable-runtime-dependency-installation", "--isolation", "process"),
        log="superlink.log",
    )
    until("the server is up", lambda: "Uvicorn running" in gate.said("superlink.log"))
    assert gate.join("amber").wait(240) == 2
    assert "The server's certificate has run out" in gate.said("amber.log")
    assert LET_IN not in gate.node_said("amber")
    assert "certificate" in gate.node_said("amber").lower()
