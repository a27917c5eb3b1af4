"""Disk and network: downloads, locks, atomic writes, free memory."""
