"""Put the text on standard input between marks of the file that is named: those of figures, or of a second argument."""

import os
import re
import sys
from pathlib import Path

_TIMED = "figures"


def main() -> None:
    """Replace the block; end with a message where there is none."""
    path, name = Path(sys.argv[1]), (*sys.argv[2:], _TIMED)[0]
    block = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    text = path.read_text(encoding="utf-8")
    figures = f"```\n{sys.stdin.read()}```\n"
    if name == _TIMED:
        figures += f"Measured on {os.cpu_count()} cores.\n"
    replaced, count = block.subn(lambda found: found[1] + figures + found[2], text)
    if count != 1:
        sys.exit(f"{path} has no block for {name}")
    path.write_text(replaced, encoding="utf-8")


if __name__ == "__main__":
    main()
