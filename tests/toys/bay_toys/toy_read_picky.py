"""A reader that needs log-probabilities and will not work behind one retriever."""

from baywindow.errors import RecipeError
from baywindow.registry import Technique, technique


@technique(room="context/read", summary="reads, choosily", needs=("text", "logprobs"))
class ToyReadPicky(Technique):
    def check_with(self, others: tuple[Technique, ...]) -> None:
        if any(other.card.name == "toy_pick" for other in others):
            raise RecipeError("toy_read_picky cannot read what toy_pick picked", hint="leave toy_pick out")
