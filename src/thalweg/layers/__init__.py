"""Building blocks that three or more models use, each citing its paper."""
