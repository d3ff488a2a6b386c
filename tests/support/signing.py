"""Releases in OCI layout, signed in cosign's format with keys that are made here, and a list of releases.

`tests/test_release_tools.py` shows that what cosign writes is read the same way."""
import base64
import hashlib
import json
import time
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edgecar.contracts.rules import RULES
from edgecar.release.evidence import (
    EVALUATION_TYPE, PROVENANCE_TYPE, json_digest, toy_release, verified_manifest
)
from edgecar.release.oci import OciLayout, read_image, toy_image
from edgecar.release.trust import TRUST_ROLES, TrustRepository, init_trust
from edgecar.release.verify import dsse_pae

SBOM_TYPE, STATEMENT_TYPE = 'https://spdx.dev/Document', 'application/vnd.in-toto+json'
BUILDER, CAR = 'https://edgecar.github.io/laptop/v1', 'registry.example.org/club/edgecar-car'
BOUNDS = {name: 1. for name in RULES}


def key_pair(folder, name, kind=ec):
    "A private key; `NAME.key` and `NAME.pub` are written."
    secret = ec.generate_private_key(ec.SECP256R1()) if kind is ec else ed25519.Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    (folder/f'{name}.key').write_bytes(secret.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    (folder/f'{name}.pub').write_bytes(secret.public_key().public_bytes(
        pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return secret


def signature(secret, text):
    return base64.b64encode(secret.sign(text, ec.ECDSA(hashes.SHA256()))).decode()


def verdicts(bounds=BOUNDS):
    "Rules that were all kept, as a gate writes them."
    return [dict(rule=n, kind=RULES[n].kind, bound=b, found=b) for n, b in bounds.items()]


def provenance(version, target, builder=BUILDER, modified=False, days=1):
    return dict(
        buildDefinition=dict(externalParameters=dict(version=version, target=target),
                             internalParameters=dict(modified=modified,
                                                     committed_s=int(time.time() - days*86400))),
        runDetails=dict(builder=dict(id=builder)))


def envelope(secret, digest, kind, predicate):
    "An attestation, as cosign attaches it."
    payload = json.dumps(dict(_type='https://in-toto.io/Statement/v0.1', predicateType=kind,
                              subject=[dict(name='car', digest=dict(sha256=digest[7:]))],
                              predicate=predicate)).encode()
    sigs = [dict(keyid='', sig=signature(secret, dsse_pae(STATEMENT_TYPE.encode(), payload)))]
    return json.dumps(dict(payloadType=STATEMENT_TYPE, payload=base64.b64encode(payload).decode(),
                           signatures=sigs)).encode()


class Club:
    "Who makes releases: keys, a folder of images, a list of releases."
    def __init__(self, folder):
        self.folder = Path(folder)
        self.image, self.gate = key_pair(self.folder, 'image'), key_pair(self.folder, 'gate')
        for name in (*TRUST_ROLES, 'root2', 'new'):
            key_pair(self.folder, name, ed25519)
        self.everyday = [self.folder/f'{role}.key' for role in ('targets', 'snapshot', 'timestamp')]
        self.roots = [self.folder/'root.key', self.folder/'root2.key']
        roles = {role: [self.folder/f'{role}.key'] for role in TRUST_ROLES} | dict(root=self.roots)
        init_trust(self.folder/'trust', roles, 2)

    def trust(self, *more, **kw):
        "The list of releases, with the keys of each day and these."
        return TrustRepository(self.folder/'trust', [*self.everyday, *more], **kw)

    def policy(self, **demands):
        "A device policy; the file is written."
        values = dict(schema=1, repository=CAR, target='car', architecture='amd64', image_key='image.pub',
                      gate_key='gate.pub', state='car/running.json', sbom=True, provenance=True,
                      modified=False, max_age_days=30., starts=3, trust='trust',
                      trust_root='trust/1.root.json', rules=BOUNDS, builders=[BUILDER]) | demands
        (self.folder/'policy.json').write_text(json.dumps(values))
        return self.folder/'policy.json'

    def release(self, version='v1.0.0', pilot=b'pilot', bounds=BOUNDS, listed=True, below=b'code', **says):
        "The name of a signed release in a folder of its own; `says` changes what is attested."
        at = self.folder/f'{version}-{hashlib.sha256(pilot + below).hexdigest()[:6]}'
        digest = toy_release(at, pilot, dict(gate=dict(passed=True, rules=verdicts(bounds))),
                             below=[{'usr/lib/code': below}], tag=version)
        self.attach(at, digest, version, bounds, **says)
        if listed:
            image = read_image(OciLayout(at), digest)
            self.trust().add(f'{CAR}/{version}', digest, image.bytes)
        return f'oci:{at}:{version}'

    def attach(self, at, digest, version, bounds, repository=CAR, target='car', lacks=(), **made):
        "Sign and attest an image of a layout."
        text = json.dumps(dict(critical=dict(identity={'docker-reference': repository},
                                             image={'docker-manifest-digest': digest},
                                             type='cosign container image signature'))).encode()
        manifest = verified_manifest(read_image(OciLayout(at), digest))
        evaluation = dict(version=version, target=target, pilot=dict(sha256=manifest.sha256),
                          gate=dict(passed=True, rules=verdicts(bounds)), data=manifest.data,
                          params=dict(sha256=json_digest(manifest.params)))
        said = {EVALUATION_TYPE: evaluation, PROVENANCE_TYPE: provenance(version, target, **made),
                SBOM_TYPE: dict(spdxVersion='SPDX-2.3')}
        said = {kind: x for kind, x in said.items() if kind not in lacks}
        name = digest.replace(':', '-')
        toy_image(at, [text], tag=f'{name}.sig',
                  notes=[{'dev.cosignproject.cosign/signature': signature(self.image, text)}])
        toy_image(at, [envelope(self.gate, digest, kind, x) for kind, x in said.items()], tag=f'{name}.att',
                  notes=[dict(predicateType=kind) for kind in said])
