"""Networks that write text, one character at a time."""
