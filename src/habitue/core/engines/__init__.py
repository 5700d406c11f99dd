"""Where steps run: one engine is one file."""
