"""HTTP to one engine or hosted service: where its key may go, what is repeated, how much is read.

- The key goes to the service's own origin (scheme, host, port) and nowhere else. Redirects are
  followed here, not by the library, and only within that origin or to hosts named beforehand,
  which get no key.
- A POST is sent once. Only what certainly never left (no connection) or was certainly refused
  (4xx) counts as not asked for; everything else is `ResultLost`, because it may be charged.
- A GET is repeated, a bounded number of times, after 429, 5xx and broken connections.
- An answer is read up to a limit, and never quoted where a service might repeat the key in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr

from gen2act_contracts.errors import (
    BackendRequires,
    Gen2ActError,
    PeerUnavailable,
    UnsupportedInstruction,
)
from gen2act_servicekit import logs
from gen2act_videogen.backend import QuotaExceeded, ResultLost

_LOG = logs.get(__name__)

Sleep = Callable[[float], Awaitable[None]]

CONNECT_S = 5.0
READ_S = 30.0  # between two pieces of an answer, unless a call says otherwise
FAREWELL_S = 5.0  # for telling a service that its work is not wanted any more
MAX_GETS = 5
MAX_REDIRECTS = 3
FIRST_PAUSE_S = 0.5  # before a GET is repeated; doubled each time
MAX_PAUSE_S = 30.0  # a longer Retry-After is not waited for in full
MAX_ERROR_BYTES = 64 << 10
MAX_QUOTED_CHARS = 200
# An idle connection may be closed by the peer just when a POST is sent on it: keep it briefly.
_KEEPALIVE_S = 2.0

_PASSING = frozenset({429, 500, 502, 503, 504})
_NEVER_LEFT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
_REFUSAL = re.compile(r"safety|polic(y|ies)|moderat|guardrail|prohibited", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What came back, read whole."""

    status: int
    content_type: str  # lower case, without parameters
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class RemoteHttp:
    """One service. Construct anywhere, use in one event loop, `aclose` at the end.

    Args:
        label: what error messages call it, e.g. "the engine".
        base_url: without a slash at its end; paths are appended to it.
        settings: prefix of the settings that error messages name, e.g. "GEN2ACT_ENGINE".
        key_header, key: sent to the service's own origin; an empty key is not sent.
        key_prefix: before the key in the header, e.g. "Bearer ".
        media_hosts: hosts, or ".suffixes" of hosts, that may be read from without the key.
        sleep: awaited with seconds before a GET is repeated; tests give another.
    """

    def __init__(
        self,
        label: str,
        base_url: str,
        *,
        settings: str,
        key_header: str,
        key: SecretStr,
        key_prefix: str = "",
        media_hosts: Collection[str] = (),
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.label = label
        self._base = httpx.URL(base_url)
        self._settings = settings
        self._key = key.get_secret_value()
        self._key_headers = {key_header: key_prefix + self._key} if self._key else {}
        self._media_hosts = tuple(media_hosts)
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            timeout=_timeout(READ_S),
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S),
            headers={"Accept-Encoding": "identity"},
            # A proxy named in the environment could read a key that is not encrypted.
            trust_env=self._base.scheme == "https",
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def post(
        self, path: str, *, limit: int, read_s: float = READ_S, **content: Any
    ) -> Answer:
        """Asks for work, once.

        Args:
            path: below the base URL.
            limit: bytes of the answer.
            read_s: patience for the answer [s].
            content: `json`, `data` or `files`, as httpx takes them.

        Raises:
            PeerUnavailable: no connection.
            QuotaExceeded: refused for now (429).
            BackendRequires: the key, the address or the request is refused.
            UnsupportedInstruction: the service will not show this.
            ResultLost: the work may have begun, and how to get at it is not known.
        """
        url = self._url(path)
        try:
            answer = await self._send("POST", url, limit, timeout=_timeout(read_s), **content)
        except _NEVER_LEFT as error:
            raise PeerUnavailable(
                f"{self.label} cannot be reached ({type(error).__name__}); check "
                f"{self._settings}_BASE_URL"
            ) from error
        except httpx.RequestError as error:
            raise ResultLost(
                f"{self.label} gave no answer ({type(error).__name__}); the request is not sent "
                "again, because it may have been accepted"
            ) from error
        if answer.ok:
            return answer
        raise self._refused(answer)

    async def get(self, where: str, *, limit: int, again: Collection[int] = ()) -> Answer:
        """Reads something of the service's.

        Args:
            where: a path below the base URL, or a whole URL that came from the service.
            limit: bytes of the answer.
            again: further statuses after which it is worth asking once more.

        Raises:
            BackendRequires: the key is refused.
            ResultLost: it cannot be had.
        """
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, MAX_GETS + 1):
            wait_s = pause_s * random.uniform(0.5, 1.0)
            try:
                answer = await self._follow(where, limit)
            except httpx.RequestError as error:
                problem = type(error).__name__
            else:
                if answer.ok:
                    return answer
                if answer.status not in _PASSING and answer.status not in again:
                    raise self._lost(answer)
                problem = f"HTTP {answer.status}"
                wait_s = _retry_after_s(answer) or wait_s
            _LOG.info("remote_away", service=self.label, problem=problem, attempt=attempt)
            if attempt < MAX_GETS:
                await self._sleep(wait_s)
                pause_s *= 2
        raise ResultLost(f"{self.label} failed {MAX_GETS} times in a row, last with {problem}")

    async def farewell(self, method: str, path: str) -> None:
        """Tells the service that something is not wanted any more. Bounded; failures are logged."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                answer = await self._send(method, self._url(path), MAX_ERROR_BYTES)
            problem = "" if answer.ok else f"HTTP {answer.status}"
        except (httpx.RequestError, TimeoutError, Gen2ActError) as error:
            problem = type(error).__name__
        if problem:
            _LOG.warning("farewell_failed", service=self.label, problem=problem)

    def quotable(self, text: str) -> str:
        """Text of the service's, short, on one line and without the key."""
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(text.split())[:MAX_QUOTED_CHARS]

    def is_refusal(self, text: str) -> bool:
        """Whether a service's words say that it may not show something."""
        return _REFUSAL.search(text) is not None

    def _url(self, path: str) -> httpx.URL:
        return httpx.URL(f"{self._base}/{path}")

    async def _follow(self, where: str, limit: int) -> Answer:
        absolute = where.startswith(("http://", "https://"))
        url = self._permitted(where) if absolute else self._url(where)
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._send("GET", url, limit)
            location = answer.headers.get("location", "")
            if not (300 <= answer.status < 400 and location):
                return answer
            url = self._permitted(location, url)
        raise ResultLost(f"{self.label} redirects more than {MAX_REDIRECTS} times")

    def _permitted(self, where: str, base: httpx.URL | None = None) -> httpx.URL:
        """The URL, if it may be read from.

        Raises:
            ResultLost: neither the service's own origin nor one of the named hosts.
        """
        try:
            url = base.join(where) if base else httpx.URL(where)
        except (httpx.InvalidURL, ValueError) as error:
            raise ResultLost(f"{self.label} refers to an address that is none") from error
        encrypted = url.scheme == "https" or is_loopback(str(self._base))
        named = any(
            url.host == host or (host.startswith(".") and url.host.endswith(host))
            for host in self._media_hosts
        )
        if self._is_home(url) or (named and encrypted):
            return url
        raise ResultLost(
            f"{self.label} refers to the host {url.host[:100]!r}, which is not its own; nothing "
            "was sent there"
        )

    def _is_home(self, url: httpx.URL) -> bool:
        return _origin(url) == _origin(self._base)

    async def _send(self, method: str, url: httpx.URL, limit: int, **options: Any) -> Answer:
        headers = self._key_headers if self._is_home(url) else {}
        async with self._client.stream(method, url, headers=headers, **options) as response:
            body = await self._read(response, limit)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Answer(response.status_code, kind, response.headers, body)

    async def _read(self, response: httpx.Response, limit: int) -> bytes:
        too_much = ResultLost(f"{self.label} sent more than {limit} bytes")
        if not response.is_success:
            limit = MAX_ERROR_BYTES
        elif int(response.headers.get("content-length", "0")) > limit:
            raise too_much
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > limit:
                if not response.is_success:
                    break
                raise too_much
        return bytes(body[:limit])

    def _refused(self, answer: Answer) -> Gen2ActError:
        """What a status other than 2xx to a POST means."""
        status = answer.status
        text = self.quotable(error_text(answer.body))
        if status in (401, 403):
            return self._key_refused(status)
        if status == 429:
            wait_s = _retry_after_s(answer)
            later = f"; it asks to wait {wait_s:g} s" if wait_s else ""
            return QuotaExceeded(f"{self.label} takes no more requests now (HTTP 429{later})")
        # Before the statuses: vLLM-Omni says that a guardrail blocked a prompt with a 500.
        if self.is_refusal(text):
            return UnsupportedInstruction(f"{self.label} refuses to show this: {text}")
        if status >= 500:
            return ResultLost(
                f"{self.label} failed (HTTP {status}); the request is not sent again, because it "
                f"may have been accepted{f': {text}' if text else ''}"
            )
        where = f"check {self._settings}_BASE_URL" if status < 400 or status in (404, 405) else text
        return BackendRequires(
            f"{self.label} does not take the request (HTTP {status}){f': {where}' if where else ''}"
        )

    def _lost(self, answer: Answer) -> Gen2ActError:
        """What a status to a GET means that asking again does not mend."""
        if answer.status in (401, 403):
            return self._key_refused(answer.status)
        text = self.quotable(error_text(answer.body))
        return ResultLost(
            f"{self.label} does not give out the video (HTTP {answer.status})"
            f"{f': {text}' if text else ''}"
        )

    def _key_refused(self, status: int) -> BackendRequires:
        # The body stays out of it: services repeat parts of the key in it.
        return BackendRequires(
            f"{self.label} refuses our key (HTTP {status}); check {self._settings}_API_KEY"
        )


def error_text(body: bytes) -> str:
    """The words of an error answer in any of the usual JSON shapes; "" for anything else.

    Google's front ends wrap theirs in a list, FastAPI says `detail`, engines `error` or `message`.
    """
    try:
        data: Any = json.loads(body)
    except ValueError:
        return ""
    for _ in range(5):  # as deep as the shapes go
        if isinstance(data, str):
            return data
        if isinstance(data, list):
            data = data[0] if data else ""
        elif isinstance(data, dict):
            inner = [data.get(key) for key in ("error", "detail", "message", "msg")]
            words = next((each for each in inner if each), "")
            code = data.get("code")
            if isinstance(words, str) and isinstance(code, str):
                return f"{code}: {words}" if words else code
            data = words
    return ""


def base_url(text: str) -> str:
    """A base URL as an operator wrote it, without a slash at its end; "" stays "".

    Raises:
        ValueError: it is no address of HTTP.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"no address: {error}") from error
    if text and not (url.scheme in ("http", "https") and url.host):
        raise ValueError("must begin with http:// or https:// and name a host")
    return text.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine."""
    with contextlib.suppress(httpx.InvalidURL):
        return httpx.URL(url).host in {"localhost", "127.0.0.1", "::1"}
    return False


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    default = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, url.port or default


def _retry_after_s(answer: Answer) -> float | None:
    """Seconds of a Retry-After header, bounded; dates are not read."""
    text = answer.headers.get("retry-after", "")
    return min(float(text), MAX_PAUSE_S) if text.isascii() and text.isdigit() else None


def _timeout(read_s: float) -> httpx.Timeout:
    return httpx.Timeout(connect=CONNECT_S, read=read_s, write=READ_S, pool=CONNECT_S)
