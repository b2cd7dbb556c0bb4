"""Fetch a file from the network, when that is allowed at all: bounded in bytes, time and redirects, public hosts only.

The host is looked up once and the connection made to the very address that was checked, so that a name cannot point
elsewhere a moment later. An address inside a private network is refused: a caller must not reach machines through us
that it cannot reach itself.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
import urllib.parse

from loqal.errors import MediaError

_TIMEOUT_S = 20.0
_TOTAL_S = 120.0
_MAX_REDIRECTS = 4
_BLOCK = 1 << 16


def download(url: str, most_bytes: int) -> bytes:
    """The body of an http or https URL. Raises MediaError."""
    deadline = time.monotonic() + _TOTAL_S
    for _ in range(_MAX_REDIRECTS + 1):
        try:
            connection, target = _connect(url)
            try:
                connection.request(
                    "GET", target, headers={"User-Agent": "loqal", "Accept": "image/*, video/*, */*;q=0.1"}
                )
                response = connection.getresponse()
                if response.status in (301, 302, 303, 307, 308):
                    url = urllib.parse.urljoin(url, response.getheader("Location") or "")
                    continue
                if response.status != 200:
                    raise MediaError(
                        f"{url[:200]} was not sent.", f"The answer was {response.status}.", "Check the URL."
                    )
                return _body(response, url, most_bytes, deadline)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise MediaError(f"{url[:200]} cannot be fetched.", f"{error}.", "Check the URL, or send bytes.") from error
    raise MediaError(
        f"{url[:200]} cannot be fetched.", f"It redirects more than {_MAX_REDIRECTS} times.", "Send bytes."
    )


def _body(response: http.client.HTTPResponse, url: str, most_bytes: int, deadline: float) -> bytes:
    parts, size = [], 0
    while block := response.read(_BLOCK):
        parts.append(block)
        size += len(block)
        if size > most_bytes:
            raise MediaError(
                f"{url[:200]} is too large.", f"At most {most_bytes:,} bytes are read.", "Send a smaller one."
            )
        if time.monotonic() > deadline:
            raise MediaError(f"{url[:200]} is too slow.", f"It was read for {_TOTAL_S:.0f} seconds.", "Send bytes.")
    return b"".join(parts)


def _connect(url: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection to the checked address of the URL's host, and what to ask for."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MediaError(f"{url[:200]} cannot be fetched.", "It is not an http or https URL.", "Check the URL.")
    secure, host = parts.scheme == "https", parts.hostname
    port = parts.port or (443 if secure else 80)
    address = _public_address(host, port)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    connection.sock = socket.create_connection((address, port), _TIMEOUT_S)
    if secure:
        connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=host)
    return connection, urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))


def _public_address(host: str, port: int) -> str:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
            raise MediaError(
                f"{host} is not asked.", f"Its address {address[0]} is not a public one.", "Send the file's bytes."
            )
    return str(found[0][-1][0])
