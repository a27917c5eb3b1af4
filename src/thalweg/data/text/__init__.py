"""Plain text, character by character."""
