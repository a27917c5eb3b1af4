"""Options: one annotated dataclass gives flags, help, JSON schema and recipe files."""
