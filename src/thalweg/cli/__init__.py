"""The command line: verbs, flags, printed results."""
