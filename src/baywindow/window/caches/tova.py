"""TOVA: at every step drop the token that the last query attends to least.

Paper: Oren and others, 2024, "Transformers are Multi-State RNNs", arXiv 2401.06104; reference code read: schwartz-lab-NLP/TOVA.

Idea: the newest query's softmax weights, averaged over all heads of a layer, say what matters now. When more than the budget is
held, the tokens with the smallest weights go; all heads of a layer keep the same tokens, layers differ. Nothing is safe, not even the
newest token, as in the reference code.

Departs from the paper: a prompt attends in full before it is cut to the budget by its last query, where the paper drops token by
token; feed it in chunks with compression of each chunk to come closer. Nothing else known.

Shapes and units: tokens per key/value head, the same in all heads of a layer; scores float32 [B, 1, L].

Cost: one more row of weights at every step, O(query heads · budget · dim), and of the prompt's last query once.

Errors: those of the budget. A sequence within the budget is left as it is.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import Block
from baywindow.window.caches._cost import budgeted_cost, voting_flops
from baywindow.window.caches.base import Moment, Phase, Selector


@technique(
    summary="at every step drop the token that the last query attends to least",
    paper="arXiv:2401.06104",
    year=2024,
    needs=("weights", "kv"),
    claim="Dropping what the newest query ignores keeps a needed early token that a recency window of the same size loses.",
    departures=("a prompt attends in full before its last query cuts it to the budget: one pass instead of one a token",),
    slot="reduce",
)
class TOVA(Selector):
    when: ClassVar[frozenset[Phase]] = frozenset({"prefill", "decode"})

    def query_window(self) -> int:
        return 1

    def score(self, moment: Moment, block: Block) -> Tensor:
        return moment.weights(moment.queries, moment.q_pos, block).mean(dim=(1, 2))[:, None]

    def cost(self, shape: Shape) -> Cost:
        kept = min(self.budget_of(shape.prompt_tokens), shape.prompt_tokens)
        steps = 2 * shape.layers * shape.q_heads * shape.head_dim * (kept + 1) * shape.generated_tokens
        return budgeted_cost(self, shape, voting_flops(shape, 1) + steps)
