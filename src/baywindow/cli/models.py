"""`bay models`: placeholder until select lands."""


def models() -> None:
    "x"
