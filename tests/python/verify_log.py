"""Verify an export or a mirror of an audit log, or receipts of erasures, from what audit-log.md says of them and nothing else.

Exit 0: nothing found; 3: findings; 1: the input cannot be read at all. Of an entry nothing is printed but its
position, id and call: who may run a verifier may not thereby read the log.
"""
import argparse
import base64
import contextlib
import hashlib
import json
import os
import re
import sys
from collections import namedtuple
from datetime import datetime
from difflib import SequenceMatcher
from pathlib import Path

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

BUNDLE_LIMIT, SEGMENT_LIMIT = 256 * 65537, 64 << 20
NUMBER, REPLICA = "(0|[1-9][0-9]{0,19})", "[a-z0-9-]{1,40}"
SEGMENT = f"([0-9]{{20}})-([0-9]{{20}})-{REPLICA}-[0-9a-f]{{16}}"
SIGNATURE = "— ([^ +\n]+) ([A-Za-z0-9+/=]+)\n"
NOTE = f"(.+)\n{NUMBER}\n([A-Za-z0-9+/]{{43}}=)\n\n(?:{SIGNATURE})+"
Head = namedtuple("Head", "label origin size root signed")


class Damage(Exception):
    """Something is not as it must be: a finding, or the end where without it there is nothing to verify."""


class Report:
    """Prints each finding on one line, whatever a damaged file name or origin may hold, and counts."""
    prefix, findings = "", 0

    def add(self, text):
        self.findings += 1
        print("".join(c if c.isascii() and c.isprintable() else "?" for c in self.prefix + text))

    @contextlib.contextmanager
    def about(self, label):
        """Makes damage met inside a finding about `label`, and goes on behind it."""
        try:
            yield
        except Damage as why:
            self.add(f"{label} {why}")


def read(path, limit=1 << 20):
    """The bytes of a regular file. A pipe would hang us and a huge file fill memory, so both are damage."""
    try:
        if not path.is_file() or path.stat().st_size > limit:
            raise Damage("is missing" if not path.exists() else "is not a file, or is too long")
        return path.read_bytes()
    except OSError as error:
        raise Damage(f"cannot be read: {error.strerror}") from None


def listed(path, pattern, report):
    """The paths of the pattern in a directory. `<name>#<digits>` was left by a crash; others are findings."""
    names = sorted(os.listdir(path)) if path.is_dir() else []
    if not names:
        report.add(f"{path.name}/ is missing or empty")
    for name in names:
        if not re.fullmatch(f"{pattern}|.+#[0-9]+", name, re.DOTALL):
            report.add(f"{path.name}/{name} does not belong there")
    return [path / name for name in names if re.fullmatch(pattern, name, re.DOTALL)]


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


class Key:
    """A verifier key `<name>+<id>+<key>`. The base64 may itself hold a `+`; the name may not."""
    def __init__(self, text):
        match = re.fullmatch(r"([^ +]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})", text.strip())
        raw = base64.b64decode(match[3]) if match else b"\0"
        if raw[0] != 1 or sha256(match[1].encode(), b"\n", raw)[:4].hex() != match[2]:
            raise Damage("the key is malformed, not of type Ed25519, or its id is not that of name and key")
        self.name, self.id = match[1], bytes.fromhex(match[2])
        self.public = Ed25519PublicKey.from_public_bytes(raw[1:])
        self.first, self.last = 0, None  # sizes of the heads that it may sign


class Chain:
    """The keys of one log: those from outside, and those that the log is handed over to."""
    def __init__(self, text):
        self.keys = [Key(line) for line in text.splitlines() if line.strip()]
        self.announced = []
        if not self.keys:
            raise Damage("no key is given")

    def take(self, position, entry):
        """An entry may announce the next key. It counts for nothing yet."""
        if (entry[6], entry[19], entry.get(14)) == ("Audit/AnnounceKey", "done", "audit_key"):
            with contextlib.suppress(Damage, UnicodeError):
                key = Key(entry.get(15, b"").decode())
                if key.name in [known.name for known in self.keys]:
                    self.announced.append((position, key))

    def admit(self, head):
        """A head must be signed by a key that may sign heads of its size."""
        signers = [key for key in self.keys if head.signed(key)]
        if not signers:
            raise Damage("has no good signature by a key that is trusted")
        if not any(key.first <= head.size <= (key.last or head.size) for key in signers):
            raise Damage("is signed by a key that had been replaced, or was not announced yet")

    def confirm(self, head):
        """An admitted head with the root of the log: what was announced before it, and signed it too, takes over."""
        for announcement in list(self.announced):
            position, new = announcement
            if position < head.size and head.signed(new):
                self.announced.remove(announcement)
                for key in self.keys:
                    if key.last is None and key.id != new.id and head.signed(key):
                        key.last = head.size
                if not any(key.id == new.id and key.last is None for key in self.keys):
                    new.first = head.size
                    self.keys.append(new)


def parse_note(note):
    """The text of a signed note, with a function that says whether a key signed it."""
    if b"\n\n" not in note:
        raise Damage("is no signed note")
    end = note.index(b"\n\n") + 1
    signatures = re.findall(SIGNATURE, note[end:].decode(errors="replace"))

    def signed(key):
        for name, signature in signatures:
            with contextlib.suppress(InvalidSignature, ValueError):  # others (witnesses) may have signed too
                raw = base64.b64decode(signature, validate=True)
                if name == key.name and raw[:4] == key.id:
                    key.public.verify(raw[4:], note[:end])
                    return True
        return False
    return note[:end], signed


def parse_head(note, origin, label):
    """The checkpoint in a signed note, with a function that says whether a key signed it."""
    if not (match := re.fullmatch(NOTE, note.decode(errors="replace"))):
        raise Damage("is no checkpoint in a signed note")
    signed = parse_note(note)[1]
    if match[1] != (origin or match[1]):
        raise Damage(f"is of {match[1]}, not of {origin}")
    return Head(label, match[1], int(match[2]), base64.b64decode(match[3]), signed)


def read_heads(paths, origin, report):
    """The heads in these files, whose signatures nobody has checked; what is none is a finding."""
    heads = []
    for path in paths:
        label = f"heads/{path.name}" if path.parent.name == "heads" else path.name
        with report.about(label):
            heads.append(parse_head(read(path), origin, label))
    return heads


def judge_heads(tree, heads, chain, report):
    """The heads that are believed. In the order of their sizes, since each may vouch for the key of the next."""
    believed = []
    for head in sorted(heads, key=lambda head: head.size):
        with report.about(head.label):
            chain.admit(head)
            believed.append(head)
            if head.size <= len(tree) and tree.root(head.size) == head.root:
                chain.confirm(head)
    return believed


class Tree:
    """An RFC 6962 tree, `levels[k][i]` the root over 2^k leaves: any earlier root is a few hashes away."""
    def __init__(self):
        self.levels = [[]]

    def __len__(self):
        return len(self.levels[0])

    def append(self, node, k=0):
        if k == len(self.levels):
            self.levels.append([])
        self.levels[k].append(node)
        if len(self.levels[k]) % 2 == 0:
            self.append(sha256(b"\x01", *self.levels[k][-2:]), k + 1)

    def cut(self, size):
        for k, level in enumerate(self.levels):
            del level[size >> k:]

    def edge(self, size):
        """Roots of the complete subtrees of the first `size` leaves, left to right."""
        return [self.levels[k][(size >> k) - 1] for k in reversed(range(size.bit_length())) if size >> k & 1]

    def root(self, size):
        *parts, root = self.edge(size) or [sha256()]
        for left in reversed(parts):
            root = sha256(b"\x01", left, root)
        return root

UINT, ID, HASH, TEXT = (int, range(1 << 64)), (bytes, [16]), (bytes, [32]), (str, ".*")
KIND = (str, "[a-z_]+")  # the document says that the list grows
IDS = "subject consent event operation record caller person recipient proposal backup".split()  # with ids of 16 bytes
FIELDS = [  # of each key the type, and the values of an integer, lengths of bytes, or pattern of a text
    (int, [1]), ID, (int, range(-1 << 64, 1 << 64)), UINT, ID, ID, (str, "[A-Za-z]+/[A-Za-z]+"), TEXT,
    (str, "full|masked"), TEXT, ID, ID, ID, ID, KIND, (bytes, range(65536)), HASH, TEXT,
    (str, "[A-Z0-9/._-]{1,64}"), (str, "permit|deny|done"), TEXT, UINT, ID, ID, HASH, UINT, ID]


def fits(value, kind, rule):
    """By exact type: CBOR's `true` is an int to Python, and equal to 1."""
    if type(value) is not kind or kind is str:
        return type(value) is kind and re.fullmatch(rule, value, re.DOTALL) is not None
    return (value if kind is int else len(value)) in rule


def decode(raw):
    """The map of an entry, if it is one of format 1, in the one encoding that it may have."""
    try:
        entry = cbor2.loads(raw)
        again = cbor2.dumps(entry, canonical=True)
    except Exception:  # whatever a decoder makes of hostile bytes, they are no entry
        raise Damage("is not CBOR") from None
    if again != raw or type(entry) is not dict or not all(fits(key, int, range(27)) for key in entry):
        raise Damage("is not the deterministic encoding of a map of the listed keys")
    wrong = [key for key in {0, 1, 2, 3, 6, 19} | entry.keys() if not fits(entry.get(key), *FIELDS[key])]
    if wrong or 15 in entry and entry.get(14) in IDS and len(entry[15]) != 16:
        raise Damage(f"lacks, or has another value than it may have, at key {(wrong or [15])[0]}")
    return entry


def named(position, raw):
    """How a finding names an entry: by position, and by id and call where it can be decoded."""
    with contextlib.suppress(Damage):
        entry = decode(raw)
        return f"entry {position} (ent_{base64.b32encode(entry[1]).decode().rstrip('=').lower()} {entry[6]})"
    return f"entry {position}"


def check_content(entries, report):
    """Decodes (position, bytes) in order: times must not go back, and the platform must stay the same."""
    last = None
    for position, raw in entries:
        with report.about(named(position, raw)):
            entry = decode(raw)
            last, before = entry, last or entry
            if entry[2] < before[2] or entry[3] != before[3]:
                raise Damage("has a time before, or a platform other than, that of the entry before it")


def split(bundle, count):
    """The first `count` entries behind two-byte lengths, and what is left over."""
    entries, at = [], 0
    while len(entries) < count and (start := at + 2) <= len(bundle):
        if (end := start + int.from_bytes(bundle[at:start], "big")) > len(bundle):
            break
        entries.append(bundle[start:end])
        at = end
    return entries, bundle[at:]


def leaf_at(tree, position):
    return tree.levels[0][position] if position < len(tree) else None


def span(first, end):
    if end < first + 2:
        return f"entry {first}" if end > first else f"before entry {first}"
    return f"entries {first} to {end - 1}"


def compare_heads(tree, heads, what, report):
    """The first head that differs bounds what was rewritten; a head beyond the tree tells that it was cut."""
    heads = sorted(heads, key=lambda head: head.size)
    if differ := [head for head in heads if head.size <= len(tree) and tree.root(head.size) != head.root]:
        agreed = max((head.size for head in heads if head.size < differ[0].size), default=0)
        report.add(f"{what}: {span(agreed, differ[0].size)} rewritten, in part or all: roots agree at size "
                   f"{agreed}, not at {differ[0].size} ({differ[0].label}; {len(differ)} differ)")
    if heads and heads[-1].size > len(tree):
        report.add(f"{what}: cut back, or a gap: {len(tree)} entries, and a head of {heads[-1].size}")


def tile_name(level, index, nodes):
    """The file of a tile, on a level of so many nodes: `x001/x234/067`, at the right edge `.p/<width>`."""
    *groups, last = re.findall("...", str(index).zfill(-(-len(str(index)) // 3) * 3))
    partial = f".p/{nodes - 256 * index}" if nodes < 256 * (index + 1) else ""
    return "/".join(["tile", str(level)] + ["x" + group for group in groups] + [last + partial])


def match_entries(start, stored, entries, report):
    """Names the entries of a bundle that are not those of its tile; gives (position, bytes) of all."""
    leaves, placed = [sha256(b"\0", raw) for raw in entries], []
    parts = [(leaf == old, i, i + 1, i, i + 1) for i, (leaf, old) in enumerate(zip(leaves, stored or leaves))]
    if stored and len(stored) != len(leaves):  # align, or all entries after one removed would seem changed
        parts = [(op == "equal", *at) for op, *at in SequenceMatcher(None, stored, leaves).get_opcodes()]
    for same, i, i_end, j, j_end in parts:
        if not same:
            found = ", ".join(named(at, raw) for at, raw in enumerate(entries[j:j_end][:3], start + i))
            report.add(f"{span(start + i, start + i_end)} changed: the bundle has {found or 'none'} there")
        placed += enumerate(entries[j:j_end], start + i)
    return placed


def verify_export(root, keys, origin, since, report, archives=()):
    """The section `Verifying`; `archives` are earlier exports. Returns the tree and the heads."""
    files = {Path(where, name).relative_to(root).as_posix()
             for where, _, names in os.walk(root / "tile") for name in names}
    if not files and not (root / "checkpoint").exists():
        raise Damage(f"{root} is no export")
    chain = Chain(keys)
    signed = read_heads([root / "checkpoint"], origin, report)
    origin = origin or signed[0].origin if signed else origin
    heads = read_heads(listed(root / "heads", ".*", report), origin, report)
    # Nobody has vouched for the size yet: no log is longer than its files.
    if not signed + heads or not files:
        report.add("nothing is signed, or there is nothing that could be")
        return Tree(), []
    size = (signed or sorted(heads, key=lambda head: head.size))[-1].size
    size = min(size, 256 * len(files))
    heads += signed + read_heads(since, origin, report)
    for archive in archives:
        heads += read_heads([archive / "checkpoint", *listed(archive / "heads", ".*", report)], origin, report)

    def tile(level, index, nodes):
        path, raw = tile_name(level, index, nodes), b""
        files.discard(path)
        with report.about(path):
            where = [at for at in (root, *archives) if level == "entries" and (at / path).exists()] or [root]
            raw = read(where[0] / path, BUNDLE_LIMIT)
            if level != "entries" and len(raw) != 32 * min(256, nodes - 256 * index):
                raise Damage(f"has {len(raw)} bytes, not the hashes of a log of {size} entries")
        return path, raw

    tree, placed = Tree(), []
    for index in range(-(-size // 256)):
        start, width = 256 * index, min(256, size - 256 * index)
        hashes = tile(0, index, size)[1]
        stored = [hashes[at:at + 32] for at in range(0, len(hashes) // 32 * 32, 32)][:width]
        path, bundle = tile("entries", index, size)
        entries, rest = split(bundle, 512)
        if rest or len(entries) != width:
            report.add(f"{path} has {len(entries)} whole entries, not {width}: {span(start, start + width)}")
        placed += match_entries(start, stored, entries, report)
        if len(tree) == start:  # the tree ends where neither tile nor bundle has a leaf
            for leaf in stored or [sha256(b"\0", raw) for raw in entries[:width]]:
                tree.append(leaf)
    for position, raw in placed:
        with contextlib.suppress(Damage):
            if sha256(b"\0", raw) == leaf_at(tree, position):
                chain.take(position, decode(raw))
    heads = judge_heads(tree, heads, chain, report)
    if not heads:
        return Tree(), []  # nothing means anything without a signature
    compare_heads(tree, heads, "the log", report)
    for level in range(1, (size.bit_length() + 7) // 8):
        for index in range(-(-(size >> 8 * level) // 256)):
            path, raw = tile(level, index, size >> 8 * level)
            known = b"".join((tree.levels[8 * level:] or [[]])[0][256 * index:][:256])
            if raw[:len(known)] != known[:len(raw)]:
                report.add(f"{path} differs from what follows from the leaves")
    with report.about("right-edge"):
        if read(root / "right-edge") != "".join(node.hex() + "\n" for node in tree.edge(len(tree))).encode():
            raise Damage("differs from what follows from the leaves")
    for path in sorted(files):
        report.add(f"{path} does not belong to a log of {size} entries")
    check_content(placed, report)
    return tree, heads


def parse_segment(path, chain, origin):
    """Position of the first entry, entries and head of a segment; or why it counts as if not there."""
    raw = read(path, SEGMENT_LIMIT)
    match = re.match(f"sandyq-segment 1\n(.{{1,512}})\n{NUMBER}\n{NUMBER}\n".encode(), raw)
    if not match or match[1] != origin.encode():
        raise Damage(f"is malformed, or not of {origin}")
    first, count = int(match[2]), int(match[3])
    entries, note = split(raw[match.end():], min(count, 65536))
    head = parse_head(note, origin, f"segments/{path.name}")
    chain.admit(head)
    size, begin = map(int, re.fullmatch(SEGMENT, path.name).groups())
    if not entries or len(entries) != count or (begin, size, size) != (first, first + count, head.size):
        raise Damage("does not hold the entries that its name, its content and its head say")
    return first, entries, head


def verify_mirror(root, keys, platform, origin, since, report):
    """The section `The mirror`. Returns the tree and the heads, with those of the segments that count."""
    base = root / platform
    if not ((root / "sandyq-mirror").exists() or base.is_dir()):
        raise Damage(f"{root} is no mirror")
    with report.about("sandyq-mirror"):
        if read(root / "sandyq-mirror") != b"sandyq-mirror 1\n":
            raise Damage("is not the line `sandyq-mirror 1`")
    listed(root, "|".join(["sandyq-mirror", *(re.escape(d.name) for d in root.glob("*/"))]), report)
    listed(base, "segments|heads", report)
    chain = Chain(keys)
    signed = read_heads(listed(base / "heads", REPLICA, report) + since, origin, report)
    tree, seen, reach, heads = Tree(), {}, 0, []
    for path in sorted(listed(base / "segments", SEGMENT, report), key=lambda path: (path.name[21:41], path)):
        with report.about(f"segments/{path.name}"):
            first, entries, head = parse_segment(path, chain, origin)
            if first > reach:
                report.add(f"{span(reach, first)} missing: no segment that counts has them")
            if other := [at for at, raw in enumerate(entries, first) if seen.get(at, raw) != raw]:
                raise Damage(f"has other entries than segments before it: {len(other)}, the first {other[0]}")
            if (before := len(tree)) == max(reach, first):  # else there is a gap, and no root to compare
                for raw in entries[before - first:]:
                    tree.append(sha256(b"\0", raw))
                if tree.root(head.size) != head.root:
                    tree.cut(before)  # so that another replica's copy may stand in
                    raise Damage(f"has not its head's root: its {span(first, head.size)} do not count")
                for position, raw in enumerate(entries[before - first:], before):
                    with contextlib.suppress(Damage):
                        chain.take(position, decode(raw))
                chain.confirm(head)
            seen |= dict(enumerate(entries, first))
            reach = max(reach, head.size)
            heads.append(head)
    heads += judge_heads(tree, signed, chain, report)
    compare_heads(tree, heads, "the mirror", report)
    check_content(sorted(seen.items()), report)
    return tree, heads


def proven_root(position, size, leaf, proof):
    """The root that an inclusion proof leads to (RFC 9162, section 2.1.3.2)."""
    at, last, root = position, size - 1, leaf
    for node in proof:
        if not last:
            raise Damage("has a proof that is too long")
        if at & 1 or at == last:
            root = sha256(b"\x01", node, root)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            root = sha256(b"\x01", root, node)
        at, last = at >> 1, last >> 1
    if position >= size or last:
        raise Damage("has a proof that is too short, or a position beyond the log")
    return root


def micros(text):
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text):
        raise Damage("has a time that is none")
    delta = datetime.fromisoformat(text[:-1]) - datetime(1970, 1, 1)
    return (delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds


def raw_id(text, prefix):
    if not re.fullmatch(prefix + "_[a-z2-7]{26}", text):
        raise Damage(f"names no {prefix}_")
    return base64.b32decode(text[4:].upper() + "======")


ACTS = {"erased": "SubjectService/EraseSubject", "called_off": "SubjectService/CancelErasure",
        "destroyed": "Operation/DestroySubject"}
TIMES = {"time", "erased_at", "destroy_at"}


def verify_receipt(receipt, keys):
    """The section `Receipts of erasures`: one receipt, and what it states."""
    if receipt.get("format") != "sandyq-receipt 1" or receipt.keys() != {
            "format", "statement", "entry", "position", "proof", "checkpoint"}:
        raise Damage("is no receipt of format 1")
    text, signed = parse_note(receipt["statement"].encode())
    if not any(signed(key) for key in keys):
        raise Damage("has a statement that no key signed")
    first, _, body = text.decode().partition("\n")
    if first != "sandyq-erasure 1":
        raise Damage("has a statement of something else")
    says = json.loads(body)
    if says.keys() != {"origin", "kind", "subject", "entry", "backups", "says"} | TIMES or says["kind"] not in ACTS:
        raise Damage("has a statement that says something else")
    times = {name: micros(says[name]) for name in TIMES}
    if says["backups"] is not None:
        gone = times["time" if says["kind"] == "destroyed" else "destroy_at"]
        if micros(says["backups"]["until"]) != gone + says["backups"]["horizon_days"] * 86_400_000_000:
            raise Damage("counts the horizon of backups from another date")
    head = parse_head(receipt["checkpoint"].encode(), says["origin"], "checkpoint")
    if not any(head.signed(key) for key in keys):
        raise Damage("has a checkpoint that no key signed")
    raw, proof = base64.b64decode(receipt["entry"]), [base64.b64decode(node) for node in receipt["proof"]]
    if proven_root(receipt["position"], head.size, sha256(b"\0", raw), proof) != head.root:
        raise Damage("is of an entry that the log does not have there")
    entry = decode(raw)
    told = {1: raw_id(says["entry"], "ent"), 2: times["time"], 6: ACTS[says["kind"]],
            10: raw_id(says["subject"], "sub"), 19: "done"}
    if differ := [key for key, value in told.items() if entry.get(key) != value]:
        raise Damage(f"states something else than its entry, at key {differ[0]}")
    if says["kind"] == "erased" and times["time"] != times["erased_at"]:
        raise Damage("states another time of erasure than its entry")
    return says


def verify_receipts(path, keys, report):
    """A file with one receipt, or with a list of them under `receipts`."""
    kept = json.loads(read(path))
    for number, receipt in enumerate(kept.get("receipts", [kept])):
        with report.about(f"receipt {number}"):
            try:
                says = verify_receipt(receipt, keys)
            except (KeyError, TypeError, ValueError, AttributeError) as why:
                raise Damage(f"is malformed: {type(why).__name__}") from None
            print(f"{says['kind']} {says['time']} {says['subject']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("export", "mirror", "receipt"))
    parser.add_argument("dir", type=Path)
    for option in ("--key", "--platform", "--origin", "--since", "--against"):
        parser.add_argument(option, type=Path if option in ("--since", "--against") else str)
    parser.add_argument("--archive", type=Path, action="append", default=[])
    args, report = parser.parse_args(), Report()
    try:
        keys = read(Path(args.key or "")).decode() if os.path.isfile(args.key or "") else args.key or ""
        named = Chain(keys).keys[0].name
        if args.what == "receipt":
            verify_receipts(args.dir, Chain(keys).keys, report)
            return 3 if report.findings else 0
        since = [args.since] if args.since and os.stat(args.since) else []  # absent: no finding
        if args.what == "export":
            tree, heads = verify_export(args.dir, keys, args.origin, since, report, args.archive)
        else:
            if not re.fullmatch("[^/.][^/]*", args.platform or ""):
                raise Damage("--platform NAME is needed")
            origin = args.origin or f"{named}/{args.platform}"
            tree, heads = verify_mirror(args.dir, keys, args.platform, origin, since, report)
        if args.what == "mirror" and args.against:
            proven = [head for head in heads if head.size <= len(tree) and tree.root(head.size) == head.root]
            report.prefix = "export: "
            export = verify_export(args.against, keys, origin, [], report)[0]
            compare_heads(export, proven, "against the mirror", report)
    except (Damage, OSError, UnicodeError) as why:
        print(f"cannot verify: {why}", file=sys.stderr)
        return 1
    print(f"{len(tree)} entries, {len(heads)} heads, {report.findings} findings")
    return 3 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
