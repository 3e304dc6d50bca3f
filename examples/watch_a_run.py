"""Ask with a budget and watch what happens: every step, every remark, then the answer with its checked citations.

python examples/watch_a_run.py "Where does an index live?" docs/indexing.md
"""

from __future__ import annotations

import sys

import baywindow as bay


def main(question: str, *paths: str) -> None:
    def watch(event: bay.Event) -> None:
        if event.kind == "step" and event.step is not None:
            print(f"step {event.step.name}: {event.step.tokens_in} tokens in, {event.step.tokens_out} out")
        elif event.kind == "note":
            print(f"note: {event.text}")

    answer = bay.ask(question, list(paths), recipe="full_text(k=5) > rag", budget="tokens=4000", on_event=watch)
    print(answer.text)
    for citation in answer.citations:
        print(f"[{citation.n}] {citation.place}: {citation.quote!r}" + ("" if citation.verified else " (not verified)"))


if __name__ == "__main__":
    main(*sys.argv[1:])
