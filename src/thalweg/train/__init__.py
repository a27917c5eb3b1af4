"""How it is minimised. Nothing here knows a task."""
