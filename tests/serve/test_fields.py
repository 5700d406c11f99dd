"""What a route takes is read from the request."""

from litestar import Request

from habitue.serve.fields import header


def test_a_header_is_what_all_headers_laid_out_say():
    told = [(b"x-api-key", b"one"), (b"x-api-key", b"two"), (b"authorization", "Bearer \xe9".encode("latin-1"))]
    request = Request({"type": "http", "headers": told})
    for name in ("X-API-Key", "authorization", "x-user-token"):
        assert header(request, name) == request.headers.get(name, "")
    assert header(request, "x-user-token") == ""
