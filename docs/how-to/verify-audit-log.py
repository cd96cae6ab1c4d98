"""Verifies an audit log with Python's standard library alone: python3 -I verify-audit-log.py DIR VKEY

The signature (RFC 8032), the entries and the tree (RFC 6962), in the order in which a sceptic would ask. One file, to
be read before it is run. It verifies the line of the log's key; for those of epochs and witnesses there is
`edgeseal audit verify`.
"""

import base64
import hashlib
import json
import pathlib
import sys

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    """Two points of edwards25519 as (X, Y, Z, T), RFC 8032 section 5.1.4."""
    s, t = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = t - s, d - c, d + c, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        result = add(result, point) if scalar & 1 else result
        point, scalar = add(point, point), scalar >> 1
    return result


def point(data):
    y, sign = int.from_bytes(data, "little") % 2**255, data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    assert y < P and x * x % P == square, "not a point of the curve"
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def verify_ed25519(key, signature, message):
    s = int.from_bytes(signature[32:], "little")
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    left, right = times(s, BASE), add(point(signature[:32]), times(h, point(key)))
    assert s < L, "the signature is wrong"
    assert (left[0] * right[2] - right[0] * left[2]) % P == 0, "the signature is wrong"
    assert (left[1] * right[2] - right[1] * left[2]) % P == 0, "the signature is wrong"


def tree(hashes):
    """RFC 6962 section 2.1, over leaf hashes."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree(hashes[:split]) + tree(hashes[split:])).digest()


def bundle(directory, number, width):
    path = f"{number % 1000:03}"
    while number := number // 1000:
        path = f"x{number % 1000:03}/{path}"
    data = (directory / "tile/entries" / (path if width == 256 else f"{path}.p/{width}")).read_bytes()
    while data:
        size = int.from_bytes(data[:2], "big")
        yield data[2 : 2 + size]
        data = data[2 + size :]


directory, (name, key_id, encoded) = pathlib.Path(sys.argv[1]), sys.argv[2].split("+", 2)
key = base64.b64decode(encoded)
assert key[0] == 1, "the first byte of an Ed25519 key is 1"
assert hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8] == key_id, "the key id is not the key's"
text, _, lines = (directory / "checkpoint").read_text().rpartition("\n\n")
signed = [base64.b64decode(line.split(" ")[2]) for line in lines.splitlines() if line.split(" ")[1] == name]
(signature,) = [data[4:] for data in signed if data[:4].hex() == key_id]
verify_ed25519(key[1:], signature, f"{text}\n".encode())
origin, size, root = text.split("\n")[:3]
assert origin == name, "the checkpoint is of another log"
entries = [e for n in range(0, int(size), 256) for e in bundle(directory, n // 256, min(256, int(size) - n))]
assert len(entries) == int(size), "entries are missing"
assert tree([hashlib.sha256(b"\0" + e).digest() for e in entries]) == base64.b64decode(root), "not the signed tree"
assert [json.loads(e)["index"] for e in entries] == list(range(int(size))), "an entry is not in its place"
print(f"{origin}: {size} entries, all of them under the signature of {name}+{key_id}")
