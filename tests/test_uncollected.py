"""Imports without the cycle collector: off inside the block, as it was behind it, also after an error."""

from __future__ import annotations

import gc

import pytest

from baywindow.uncollected import uncollected


def test_off_in_the_block_and_on_again_behind_it():
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_error_does_not_leave_it_off():
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    assert gc.isenabled()


def test_who_had_it_off_keeps_it_off():
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
