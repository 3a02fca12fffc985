"""`python -m scripts.reference`, or `make reference`: write the pages that are made from the code anew."""

from __future__ import annotations

import sys

from scripts.reference import PAGES, ROOT, made


def main() -> None:
    """Write what is not as it should be, and say so."""
    for name in PAGES:
        path, page = ROOT / name, made(name)
        if not path.exists() or path.read_text(encoding="utf-8") != page:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page, encoding="utf-8")
            sys.stdout.write(f"{name} is written anew\n")


if __name__ == "__main__":
    main()
