"""Altered copies of what a model learns from, for the rows of training alone; one file a modality.

Each file has METHODS: name -> function(content, rng) -> content altered, its label kept. The same generator, the same
copy. Nothing here is called where a row is answered, and nothing is on unless asked for: docs/prepare.md says what each
bought.
"""
