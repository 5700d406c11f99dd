"""Identities and pseudonyms, callable from any stage."""
