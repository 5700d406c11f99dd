"""The report as one self-contained page, drawn from a plain dict."""

from habitue.dashboard.page import render, write

__all__ = ["render", "write"]
