"""Load a ruleset into this network namespace and print it as the kernel gives it back. Runs inside the tools tree.

Usage: python3 -I nftguest.py < RULESET. Prints the listing with its bytecode, a line of NUL, and the listing as JSON.
The exit code is nft's.
"""

import subprocess
import sys


def tell(lines: list[str]) -> None:
    """What nft said, the first error once more as the last line: behind it nft shows the place with a row of carets."""
    errors = [line for line in lines if "Error: " in line][:1]
    sys.stderr.write("".join(f"{line}\n" for line in (*lines, *errors)))


def main() -> int:
    """Returns the first exit code that is not 0."""
    ruleset = sys.stdin.buffer.read()
    loaded = subprocess.run(["nft", "-f", "-"], input=ruleset, stderr=subprocess.PIPE, check=False)
    if loaded.returncode:
        tell(loaded.stderr.decode(errors="replace").splitlines())
        return loaded.returncode
    for words in (["nft", "--debug=netlink", "list", "ruleset"], ["nft", "-j", "list", "ruleset"]):
        listed = subprocess.run(words, check=False)
        if listed.returncode:
            return listed.returncode
        sys.stdout.write("\0\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
