"""What is announced as too large is answered by its header alone."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Iterator
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.wsgi import get_wsgi_application
from django.urls import reverse
from django.utils.translation import override

from marketplace.bodylimit import FORM_BYTES, limit_bytes

GIBIBYTE = 1024**3
ID = uuid.uuid4()


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server on a real socket. What it refuses needs neither session nor database."""
    server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def ask(port: int, path: str, *headers: str, method: str = "POST") -> tuple[int, dict[str, str], str]:
    """(status, headers, body) of a request whose body is announced and never sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in rest), body


def upload_addresses() -> list[str]:
    found = [reverse("tus_file", args=[ID]), f"/api/v1/submissions/{ID}/files/"]
    for language in ("en", "fr"):
        with override(language):
            found.append(reverse("submission_upload", args=[ID]))
    return found


def test_uploads_may_be_as_large_as_a_file_and_everything_else_a_few_megabytes(settings):
    for path in upload_addresses():
        assert limit_bytes(path) == settings.UPLOAD_FILE_MAX_BYTES + FORM_BYTES
    for path in ("/en/", "/files/", f"/en/contribute/{ID}/", f"/api/v1/submissions/{ID}/", f"/files/{ID}/upload/"):
        assert limit_bytes(path) == settings.DATA_UPLOAD_MAX_MEMORY_SIZE < 16 * 1024**2


def test_a_body_that_is_announced_too_large_is_refused_before_a_byte_of_it_is_sent(port):
    multipart = "Content-Type: multipart/form-data; boundary=x"
    for path in [*upload_addresses(), "/en/accounts/login/", "/api/v1/datanets/"]:
        status, headers, body = ask(port, path, multipart, f"Content-Length: {10 * GIBIBYTE}")
        assert status == 413
        assert "content-security-policy" in headers
        assert json.loads(body) if path.startswith(("/api/", "/files/")) else "<h1>" in body
    status, _, body = ask(port, "/api/v1/datanets/", f"Content-Length: {10 * GIBIBYTE}")
    assert json.loads(body)["error"]["code"] == "too_large"


def test_the_refusal_speaks_the_language_of_the_address(port):
    length = f"Content-Length: {10 * GIBIBYTE}"
    assert "10 MiB at once" in ask(port, f"/en/datanets/{ID}/", length)[2]
    assert "10 Mio à la fois" in ask(port, f"/fr/datanets/{ID}/", length)[2]


def test_a_body_of_unknown_length_is_not_read(port):
    for path in (f"/api/v1/submissions/{ID}/files/", "/en/accounts/login/"):
        assert ask(port, path, "Transfer-Encoding: chunked")[0] == 411
