"""The recipe parser, its errors, its three forms and its hash."""
