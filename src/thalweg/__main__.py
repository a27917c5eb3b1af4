"""`python -m thalweg`, and so `torchrun -m thalweg`: the command line."""

from .cli import main

if __name__ == "__main__":
    main()
