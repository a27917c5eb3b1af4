"""Ours: the command line, as the installed `thalweg` starts it."""

from thalweg.cli.main import main

if __name__ == "__main__":
    main()
