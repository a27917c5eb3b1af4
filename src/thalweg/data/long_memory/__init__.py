"""Problems that only a long memory solves: sequences that are made, never read."""
