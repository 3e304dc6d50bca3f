"""Techniques without a purpose, found through entry points, on which the registry and the recipe parser are tested."""
