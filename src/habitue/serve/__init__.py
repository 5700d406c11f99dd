"""The server: events come in, answers go out, on one port; litestar is loaded by nothing but its own files."""
