"""The only door through which this site connects to other hosts: connected models, webhooks.

The name is resolved once and that address is used, so that a second answer of a name server cannot redirect a request
(DNS rebinding). Private, loopback, link-local, metadata and mapped ranges are refused, as are redirects. Plain http and
private addresses are for hosts that the settings name only: OUTBOUND_ALLOW, WEBHOOK_ALLOW.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

ANSWER_MAX_BYTES = 8 * 1024 * 1024
_TOLD_BYTES = 1024  # of an answer that is only logged


class OutboundRefused(Exception):
    """The address may not be reached from here. Nothing was sent."""

    code = "outbound_refused"


@dataclass(frozen=True)
class Target:
    """An address that passed: connect to `address`, speak to `host`."""

    scheme: str
    host: str
    port: int
    address: str
    path: str

    @property
    def authority(self) -> str:
        default = 443 if self.scheme == "https" else 80
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == default else f"{host}:{self.port}"


def resolve(url: str, *, allow: Iterable[str] = ()) -> Target:
    """Check a URL and resolve its host once.

    Args:
        url: Absolute http(s) URL without credentials or fragment.
        allow: `host:port` pairs that may be plain http or private.

    Raises:
        OutboundRefused: the scheme, the host or the address it resolves to is not allowed, or it does not resolve.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise OutboundRefused("This is no address.") from None
    try:
        port = parts.port
    except ValueError:
        raise OutboundRefused("The port of the address is not a number.") from None
    host = (parts.hostname or "").rstrip(".").lower()
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password or parts.fragment:
        raise OutboundRefused("Only plain https addresses without user names can be reached.")
    port = port or (443 if parts.scheme == "https" else 80)
    allowed = f"{host}:{port}" in set(allow)
    if parts.scheme == "http" and not allowed:
        raise OutboundRefused("Only https addresses can be reached.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise OutboundRefused("The host of the address is not known.") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not allowed:
        for address in addresses:
            if not is_public(address):
                raise OutboundRefused("The address leads to a private network.")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return Target(scheme=parts.scheme, host=host, port=port, address=addresses[0], path=path or "/")


def post(target: Target, *, body: bytes, headers: Mapping[str, str], timeout_s: float) -> tuple[int, bytes]:
    """Post once to the address that was checked. Returns the status and the beginning of the answer; no redirect is followed.

    Raises:
        TimeoutError: it took longer than that in all, however steadily the other side drips.
        OSError, http.client.HTTPException: no connection, or no answer in HTTP.
    """
    late = threading.Event()
    raw = socket.create_connection((target.address, target.port), timeout=timeout_s)
    with raw if target.scheme == "http" else _tls(raw, target.host) as connected:

        def hang_up() -> None:
            late.set()
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)  # under TLS, whose own end would wait

        timer = threading.Timer(timeout_s, hang_up)
        timer.start()
        try:
            if isinstance(connected, ssl.SSLSocket):
                connected.do_handshake()
            asking = http.client.HTTPConnection(target.host, target.port)
            asking.sock = connected
            asking.request("POST", target.path, body, {"host": target.authority, "connection": "close", **headers})
            answer = asking.getresponse()
            said = answer.read(_TOLD_BYTES)
        except (OSError, http.client.HTTPException):
            if late.is_set():
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError
        return answer.status, said


def _tls(raw: socket.socket, host: str) -> ssl.SSLSocket:
    return ssl.create_default_context().wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, looking through IPv4 inside IPv6."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    return ip.is_global and not ip.is_multicast
