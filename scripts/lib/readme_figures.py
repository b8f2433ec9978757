"""Put the text on standard input between the figures marks of the file that is named."""

import os
import re
import sys
from pathlib import Path

_BLOCK = re.compile(r"(<!-- figures:begin -->\n).*?(<!-- figures:end -->)", re.DOTALL)


def main() -> None:
    """Replace the block; end with a message where there is none."""
    path = Path(sys.argv[1])
    text = path.read_text(encoding="utf-8")
    figures = f"```\n{sys.stdin.read()}```\nMeasured on {os.cpu_count()} cores.\n"
    replaced, count = _BLOCK.subn(lambda found: found[1] + figures + found[2], text)
    if count != 1:
        sys.exit(f"{path} has no block for figures")
    path.write_text(replaced, encoding="utf-8")


if __name__ == "__main__":
    main()
