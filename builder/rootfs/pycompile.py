"""Byte-compile Python files so that the bytes depend on each source alone. Runs inside the tools tree.

marshal writes a reference flag that depends on what else the process has interned, so compiling many files in one
process gives bytes that depend on their order. Every file is compiled in a fork of the same, untouched parent.

Usage: python3 -I pycompile.py ROOT < paths, one a line, relative to ROOT. Writes __pycache__/NAME.cpython-313.pyc
beside each, with an unchecked source hash (PEP 552): no time stamp, and nothing to check on a sealed root.
"""

import importlib.util
import marshal
import os
import sys

WORKERS = 2
_HEADER = importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little")  # PEP 552: hash-based, unchecked


def compile_one(root: str, path: str) -> None:
    """Compile one file. Sources that are not valid for this interpreter are left without bytecode."""
    with open(os.path.join(root, path), "rb") as stream:  # noqa: PTH118, PTH123
        source = stream.read()
    try:
        code = compile(source, "/" + path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        return
    data = _HEADER + importlib.util.source_hash(source) + marshal.dumps(code)
    target = importlib.util.cache_from_source(os.path.join(root, path))  # noqa: PTH118
    os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
    with open(target, "wb") as output:  # noqa: PTH123
        output.write(data)


def main() -> int:
    """Returns 1 when a child failed."""
    root = sys.argv[1]
    running, failed = 0, 0
    for line in sys.stdin.read().splitlines():
        if running == WORKERS:
            failed |= os.wait()[1]
            running -= 1
        if os.fork() == 0:
            try:
                compile_one(root, line)
            except BaseException as error:
                print(f"{line}: {error}", file=sys.stderr)
                os._exit(1)
            os._exit(0)
        running += 1
    while running:
        failed |= os.wait()[1]
        running -= 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
