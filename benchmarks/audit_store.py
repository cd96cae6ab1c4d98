"""`python -m benchmarks.audit_store`: the audit log's store alone: append, sync, sign, publish, open, verify.

One process, real files, Ed25519 by cryptography. What the whole service does is benchmarks/audit.py.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.audit.store import TileLog
from appliance.formats.checkpoint import decode_checkpoint
from appliance.formats.merkle import consistency_proof, inclusion_proof, leaf_hashes, tree_hash
from appliance.formats.signed_note import ED25519, VerifierKey, decode_note, sign_note
from appliance.formats.tlog_tiles import BUNDLE, decode_bundle, decode_tile, tree_files

ORIGIN = "edgeseal.audit/benchmark/00000000"
Signer = Callable[[str], bytes]
Figures = dict[str, float]


def main() -> int:
    """Prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the log that is opened and verified")
    entries: int = parser.parse_args().entries
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        figures = measure(Path(name), entries)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    return 0


def measure(directory: Path, entries: int) -> Figures:
    """Every figure. directory: on the disk that counts."""
    sign = signer()
    for name in ("batched", "paced", "million"):
        (directory / name).mkdir()
    return {
        **batched(directory / "batched", sign, batch=256, seconds=3.0),
        **paced(directory / "paced", sign, events=300),
        **million(directory / "million", sign, entries),
    }


def batched(directory: Path, sign: Signer, *, batch: int, seconds: float) -> Figures:
    """Events a second when every batch is made durable and signed, and the tree is published once a second."""
    log = TileLog.create(directory / "tlog", directory / "state", ORIGIN)
    begun = published = time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        log.append([entry(index) for index in range(log.size, log.size + batch)])
        log.commit(sign)
        if now > published + 1:
            log.publish()
            published = now
    log.publish()
    spent = time.perf_counter() - begun
    log.close()
    return {"durable_signed_per_s": log.size / spent}


def paced(directory: Path, sign: Signer, *, events: int) -> Figures:
    """Milliseconds of one event until it is durable and signed, at 100 a second, published once a second."""
    log, taken = TileLog.create(directory / "tlog", directory / "state", ORIGIN), []
    for number in range(events):
        begun = time.perf_counter()
        log.append([entry(log.size)])
        log.commit(sign)
        taken.append((time.perf_counter() - begun) * 1000)
        if number % 100 == 99:
            log.publish()
        time.sleep(max(0.0, begun + 0.01 - time.perf_counter()))
    log.close()
    cuts = statistics.quantiles(taken, n=100)
    return {"commit_p50_ms": cuts[49], "commit_p99_ms": cuts[98]}


def million(directory: Path, sign: Signer, entries: int) -> Figures:
    """Opening a large log, proofs from it, and reading all of it."""
    log = TileLog.create(directory / "tlog", directory / "state", ORIGIN)
    begun = time.perf_counter()
    while log.size < entries:
        log.append([entry(index) for index in range(log.size, min(entries, log.size + 4096))])
        log.commit(sign)
    log.publish()
    log.close()
    built = time.perf_counter()
    log = TileLog.open(directory / "tlog", directory / "state")
    opened = time.perf_counter()
    for _ in range(10):
        inclusion_proof(entries // 3, entries, log.read_node)
        consistency_proof(entries // 2 + 1, entries, log.read_node)
    proofs = time.perf_counter() - opened
    log.close()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # the reader below keeps a million hashes
    proved = time.perf_counter()
    verify(directory / "tlog")
    verified = time.perf_counter()
    return {
        "entries": entries,
        "build_per_s": entries / (built - begun),
        "open_s": opened - built,
        "two_proofs_ms": proofs * 100,
        "verify_per_s": entries / (verified - proved),
        "resident_mb": resident,
        "disk_bytes_per_entry": log.disk_bytes / entries,
    }


def verify(directory: Path) -> None:
    """Every entry against its tile, every tile against the one above, the top against the checkpoint."""
    checkpoint = decode_checkpoint(decode_note((directory / "checkpoint").read_bytes()).text)
    below: list[bytes] = []
    above: list[bytes] = []
    level, edge = BUNDLE, list[tuple[int, list[bytes]]]()
    for tile in tree_files(checkpoint.size):
        if tile.level != level:
            below, above, level = above, [], tile.level
        data = (directory / tile.path).read_bytes()
        if level == BUNDLE:
            above += leaf_hashes(decode_bundle(data, tile.width))
            continue
        hashes = decode_tile(data, tile.width)
        if hashes != below[256 * tile.index : 256 * tile.index + tile.width]:
            raise SystemExit(f"{tile.path} is not what is under it")
        if tile.width == 256:
            above.append(tree_hash(hashes))
        else:
            edge.append((level, hashes))
    value: list[bytes] = []
    for _, hashes in edge:
        value = [tree_hash([*hashes, *value])]
    if (value or above)[0] != checkpoint.root:
        raise SystemExit("the tiles lead to another root")


def signer() -> Signer:
    """With a new key."""
    key = Ed25519PrivateKey.generate()
    verifier = VerifierKey(ORIGIN, ED25519, key.public_key().public_bytes_raw())
    return lambda text: sign_note(text, [(verifier, key.sign)])


def entry(index: int) -> bytes:
    """About as long as an event is."""
    return b'{"index":%d,"text":"%s"}\n' % (index, b"x" * 350)


if __name__ == "__main__":
    raise SystemExit(main())
