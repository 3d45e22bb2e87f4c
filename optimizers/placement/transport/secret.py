"""The secret that the workers of a job share: who does not prove that it has it is not talked to."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field

from optimizers.placement.transport.errors import TransportError

VARIABLE = "HOTBENCH_SECRET"
SHORTEST = 16  # bytes
PROOF_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class Secret:
    """Bytes that prove things without being sent."""

    value: bytes = field(repr=False)

    @classmethod
    def given(cls, value: bytes | str | None) -> Secret:
        """Return the given secret, or that of HOTBENCH_SECRET; raise TransportError where it is missing or short."""
        found = os.environ.get(VARIABLE, "") if value is None else value
        secret = found.encode() if isinstance(found, str) else found
        if not secret:
            raise TransportError(f"{VARIABLE} is not set; give every worker of the job the same random text in it")
        if len(secret) < SHORTEST:
            raise TransportError(f"the secret has {len(secret)} bytes; give {SHORTEST} random bytes or more")
        return cls(secret)

    def prove(self, *parts: bytes) -> bytes:
        """Return the proof of these parts, in this order."""
        digest = hmac.new(self.value, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.digest()

    def proves(self, proof: bytes, *parts: bytes) -> bool:
        """Return whether the proof is that of these parts."""
        return hmac.compare_digest(proof, self.prove(*parts))

    def derive(self, *parts: bytes) -> Secret:
        """Return a secret for one use, from which this one cannot be found."""
        return Secret(self.prove(b"derived", *parts))
