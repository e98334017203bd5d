"""REST APIs that answer in JSON: one rate limit for all requests, bounded retries, and no key in any message.

Clock, sleep and randomness are arguments, so that tests wait for nothing.
"""

import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from pipeline.settings import ServiceError

log = logging.getLogger(__name__)

Json = dict[str, Any]
Get = Callable[..., Json]  # a path and its parameters to the JSON object there; raises SourceError

_CONNECT_SECONDS, _READ_SECONDS, _WHOLE_ANSWER_SECONDS = 5, 30, 120
_MOST_BYTES = 64 << 20  # the largest page there is, 50,000 bars, has some 8 MB
_ATTEMPTS, _PATIENCE_SECONDS = 8, 600
_LONGEST_PAUSE_SECONDS = 60
_SHOWN_CHARACTERS = 1000  # of a stranger's message


class SourceError(ServiceError):
    """An API refused, or did not answer as it should; the text holds its message and no key. `status` is HTTP's, 0 for
    none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _TryAgain(Exception):
    """A failure that may pass. `after_seconds` is what the server asked for."""

    def __init__(self, reason: str, after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds


class Limited(_TryAgain):
    """An API's way of saying 429 with status 200."""


class RateLimit:
    """At most so many requests in any minute, whoever asks; 0 is no limit."""

    def __init__(
        self,
        per_minute: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._asked: deque[float] = deque(maxlen=per_minute)

    def wait(self) -> None:
        """Wait until one more request is within the limit, and count it."""
        if self._asked.maxlen and len(self._asked) == self._asked.maxlen:
            # A little more than a minute: the server's clock counts from when the request arrives.
            pause = self._asked[0] + 60.5 - self._clock()
            if pause > 0:
                log.info(
                    "waiting for the rate limit", extra={"seconds": round(pause, 1), "per_minute": self._asked.maxlen}
                )
                self._sleep(pause)
        self._asked.append(self._clock())


class Rest:
    """One API. `key` travels as a bearer header, or as the query parameter `key_parameter` where the API knows nothing
    else.

    `refusal` looks at a body that came with status 200 and returns the message of an error in it, or raises Limited.
    Messages name the settings to look at: `settings` is what their names begin with, such as POLYGON.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str,
        settings: str,
        limit: RateLimit,
        key_parameter: str = "",
        refusal: Callable[[Json], str] = lambda _: "",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._base_url, self._key, self._key_parameter = base_url.rstrip("/"), key, key_parameter
        self._key_setting, self._shown_url = f"{settings}_API_KEY", f"{settings}_BASE_URL={self._base_url}"
        self._limit, self._refusal, self._clock, self._sleep, self._jitter = limit, refusal, clock, sleep, jitter
        self._session = requests.Session()
        if not key_parameter:
            self._session.auth = self._bearer  # As auth and not as a header: ~/.netrc would replace a header.

    def _bearer(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def get(self, path: str, parameters: Mapping[str, object] | None = None) -> Json:
        """Return the JSON object at a path of the base URL.

        Raises SourceError after a refusal, and when all attempts or all patience are spent.
        """
        began = self._clock()

        def is_spent(state: RetryCallState) -> bool:
            waited = self._clock() - began
            return state.attempt_number >= _ATTEMPTS or waited + state.upcoming_sleep > _PATIENCE_SECONDS

        def tell(state: RetryCallState) -> None:
            reason = self._clean(str(_failure(state)))
            log.warning(
                "asking again", extra={"path": path, "reason": reason, "in_seconds": round(state.upcoming_sleep, 1)}
            )

        def give_up(state: RetryCallState) -> Json:
            tries = f"asked {state.attempt_number} times in {self._clock() - began:.0f} s"
            raise SourceError(self._clean(f"{self._shown_url}: {path}: {_failure(state)} ({tries})")) from None

        retrying = Retrying(
            retry=retry_if_exception_type(_TryAgain),
            wait=self._pause_seconds,
            stop=is_spent,
            before_sleep=tell,
            retry_error_callback=give_up,
            sleep=self._sleep,
        )
        return retrying(self._ask, path, dict(parameters or {}))

    def _pause_seconds(self, state: RetryCallState) -> float:
        """What the server asked for, or else twice as long each time, less up to a half by chance."""
        asked_for = _failure(state).after_seconds
        if asked_for is not None:
            return asked_for
        longest: float = min(_LONGEST_PAUSE_SECONDS, 2 ** (state.attempt_number - 1))
        return longest * (0.5 + self._jitter() / 2)

    def _ask(self, path: str, parameters: Json) -> Json:
        url = self._url(path)
        self._limit.wait()
        if self._key_parameter:
            parameters[self._key_parameter] = self._key
        try:
            with self._session.get(
                url, params=parameters, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)
            ) as answer:
                body = self._read(answer)
        except requests.RequestException as error:
            # Its text holds the URL, and that may hold the key.
            raise _TryAgain(_in_words(error)) from None
        try:
            decoded = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = None
        self._check_status(answer, decoded, path)
        if not isinstance(decoded, dict):
            raise _TryAgain(f"the answer is not a JSON object but {body[:60]!r}")
        if message := self._refusal(decoded):
            raise SourceError(self._clean(f"{self._base_url}{path}: {message[:_SHOWN_CHARACTERS]}"), answer.status_code)
        return decoded

    def _url(self, path: str) -> str:
        """The URL of a path; raises SourceError for one that leads to another host, which must not see the key."""
        url = self._base_url + path
        base, found = urlsplit(self._base_url), urlsplit(url)
        if not path.startswith("/") or "\\" in path or (found.scheme, found.netloc) != (base.scheme, base.netloc):
            raise SourceError(f"{self._shown_url}: the path {path[:200]!r} leads away from it")
        return url

    def _read(self, answer: requests.Response) -> bytes:
        """The body, within a size and a time of its own: the read timeout alone would let it trickle in for ever."""
        until, body = self._clock() + _WHOLE_ANSWER_SECONDS, bytearray()
        for part in answer.iter_content(1 << 16):
            body += part
            if len(body) > _MOST_BYTES:
                raise SourceError(f"{self._shown_url}: an answer of more than {_MOST_BYTES >> 20} MB")
            if self._clock() > until:
                raise _TryAgain(f"the answer took longer than {_WHOLE_ANSWER_SECONDS} s")
        return bytes(body)

    def _check_status(self, answer: requests.Response, decoded: object, path: str) -> None:
        status = answer.status_code
        if status in (408, 429) or status >= 500:
            raise _TryAgain(f"HTTP {status} {answer.reason}", _retry_after_seconds(answer.headers.get("Retry-After")))
        if status >= 400:
            said = decoded if isinstance(decoded, dict) else {}
            message = str(said.get("error") or said.get("message") or answer.reason)[:_SHOWN_CHARACTERS]
            setting = f"{self._key_setting}: " if status in (401, 403) else ""
            raise SourceError(self._clean(f"{setting}{self._base_url}{path}: HTTP {status}: {message}"), status)

    def _clean(self, text: str) -> str:
        """Some APIs repeat the key in their messages."""
        return text.replace(self._key, "***") if self._key else text


def _failure(state: RetryCallState) -> _TryAgain:
    """Why the last attempt failed."""
    failure = state.outcome and state.outcome.exception()
    if not isinstance(failure, _TryAgain):
        raise TypeError(f"only _TryAgain is tried again, not {failure!r}")
    return failure


def _in_words(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the answer was cut off"
    return f"the connection failed ({type(error).__name__})"


def _retry_after_seconds(header: str | None) -> float | None:
    """Seconds, or an HTTP date; None for anything else. https://www.rfc-editor.org/rfc/rfc9110#field.retry-after"""
    try:
        seconds = float(header or "")
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header or "").timestamp() - time.time()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def paginate(get: Get, path: str, parameters: Mapping[str, object] | None = None) -> Iterator[Json]:
    """Yield the page at a path and those that each page's next_url leads to.

    Only the path and query of next_url are used: the key is sent to the configured host and to no other.
    """
    seen = set()
    while True:
        page = get(path, parameters)
        yield page
        next_url = page.get("next_url")
        if not next_url:
            return
        if not isinstance(next_url, str):
            raise SourceError(f"{path}: next_url is {next_url!r}")
        if next_url in seen:
            raise SourceError(f"{path}: its pages lead in a circle")
        seen.add(next_url)
        try:
            parts = urlsplit(next_url)
        except ValueError as error:
            raise SourceError(f"{path}: next_url {next_url[:200]!r}: {error}") from None
        path = parts.path
        parameters = {name: value for name, value in parse_qsl(parts.query) if name.lower() != "apikey"}
