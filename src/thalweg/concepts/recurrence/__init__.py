"""The concept recurrence."""
