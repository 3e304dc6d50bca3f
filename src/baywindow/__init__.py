"""Baywindow makes any language model work on more context than it was built for, inside a stated budget, and shows what that cost."""
