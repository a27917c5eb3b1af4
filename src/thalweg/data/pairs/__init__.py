"""Pairs of sentences: a text in one language and what it means in another."""
