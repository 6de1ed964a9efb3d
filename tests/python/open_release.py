"""Open a sealed release as its recipient, from what releases.md says and nothing else.

Prints the values as JSON. Exit 0: opened; 3: refused, with the reason and no value; 1: the input cannot be read.
"""
import argparse
import base64
import json
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from verify_log import Damage, Key, parse_note, sha256

LINES = re.compile(
    rb"(sandyq-release 1\nlog ([^\n]+)\nrecipient ([^\n]+)\nkey ([0-9a-f]{64})\npurpose ([^\n]+)\n"
    rb"(?:outreach ([^\n]+)\n)?(?:reference ([^\n]+)\n)?expires ([^\n]+)\n((?:entry ent_[a-z2-7]{26}\n)+))sealed ([0-9a-f]{64})\n"
)


def check(condition, reason):
    if not condition:
        raise Damage(reason)


def open_release(release, args):
    text, signed = parse_note(release["statement"].encode())
    check(signed(Key(args.key)), "the statement is not signed by the vault")
    match = LINES.fullmatch(text)
    check(match, "the statement is of another form")
    info, log, recipient, key_id, purpose, outreach, reference, expires, entries, sealed = match.groups(default=b"")
    secret = X25519PrivateKey.from_private_bytes(bytes.fromhex(Path(args.secret).read_text()))
    check(log.decode() == args.log, "it is of another platform")
    check(recipient.decode() == args.recipient, "it is addressed to another recipient")
    check(key_id.decode() == sha256(secret.public_key().public_bytes_raw()).hex(), "it is sealed to another key")
    check(purpose.decode() == args.purpose, "it is for another purpose")
    check(outreach.decode() == args.outreach, "it is for another channel or sender")
    check(reference.decode() == args.reference, "it is of another payment")
    now = datetime.fromisoformat(args.now) if args.now else datetime.now(timezone.utc)
    check(now < datetime.fromisoformat(expires.decode()), "it has expired")
    envelope = base64.b64decode(release["enc"]) + base64.b64decode(release["ciphertext"])
    check(sha256(envelope).hex() == sealed.decode(), "what is sealed is not what was signed")
    seen = Path(args.seen)
    known = set(seen.read_text().split()) if seen.exists() else set()
    entries = entries.decode().replace("entry ", "").split()
    check(not known.intersection(entries), "it was taken before")
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    try:
        values = json.loads(suite.decrypt(envelope, secret, info))["values"]
    except InvalidTag:
        raise Damage("it does not open") from None
    check(len(values) == len(entries), "values and entries are not as many")
    with seen.open("a") as file:
        file.write("".join(f"{entry}\n" for entry in entries))
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("release", help="JSON with enc, ciphertext and statement")
    for name in ("key", "log", "recipient", "purpose", "secret", "seen"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--outreach", default="", help="channel and sender, of a purpose that reaches people")
    parser.add_argument("--reference", default="")
    parser.add_argument("--now", help="instant, in the place of the machine's time")
    args = parser.parse_args()
    try:
        release = json.loads(Path(args.release).read_text())
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        print(json.dumps(open_release(release, args), ensure_ascii=False))
    except Damage as why:
        print(why)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
