"""Reports, model cards and concept pages as text and HTML."""
