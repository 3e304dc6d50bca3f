"""Find passages in texts that are not files. Needs no language model and stores nothing.

python examples/search_in_memory.py
"""

from __future__ import annotations

import baywindow as bay

LETTERS = [
    bay.Document("Dear landlord,\n\nthe heating has been cold since Monday.\n", source="letter 1"),
    bay.Document(
        "Dear tenant,\n\na plumber will look at the heating on Thursday.\n\nThe notice period is three months.\n", source="letter 2"
    ),
]


def main() -> None:
    for passage in bay.search("How long is the notice period?", LETTERS, recipe="full_text", k=1):
        print(passage.place)
        print(passage.text.strip())


if __name__ == "__main__":
    main()
