"""The `bay` command: one file a command. Importing them loads neither torch nor the index, so that `bay --help` is quick."""
