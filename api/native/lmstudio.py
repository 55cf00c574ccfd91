"""Whether the language model server that jobs need would answer them."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Literal

import httpx2
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

logger = logging.getLogger("crewlog.lmstudio")

_ANSWER_LIMIT = 1024 * 1024


class LMStudioHealth(BaseModel):
    """The `lm_studio` part of health (`contracts/gitoma.md` §3). Every key is always present."""

    level: Literal["ok", "warn", "error"]
    message: str
    detail: str = ""
    available_models: list[str] = []
    target_model_loaded: bool = False


Probe = Callable[[], Awaitable[LMStudioHealth]]
"""Asks one how it is."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    id: str


class _ModelList(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    data: list[_Model]


_model_list = TypeAdapter(_ModelList)


class _Unhealthy(Exception):
    """A failed check: a sentence, and what to do about it."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


async def probe(
    base_url: str, model: str, *, timeout_s: float = 2.5, budget_s: float = 3.0
) -> LMStudioHealth:
    """Ask `<base_url>/models` whether `model` is there. Never raises.

    `timeout_s` limits each network operation, `budget_s` the whole. The first of these that applies
    is level `error`: bad address, unreachable, timed out, not a 200, not a model list, an empty
    list, `model` not in it. Otherwise the level is `ok`. No part of `base_url` that may hold a
    credential is ever repeated.
    """
    try:
        url = _models_url(base_url)
        async with asyncio.timeout(budget_s):
            return _judge(await _list_models(url, timeout_s), model)
    except _Unhealthy as broken:
        return LMStudioHealth(level="error", message=broken.message, detail=broken.detail)
    except (TimeoutError, httpx2.TimeoutException):
        return LMStudioHealth(
            level="error",
            message="LM Studio timed out.",
            detail=f"No complete answer came from {_shown(url)} in time.",
        )
    except (httpx2.TransportError, OSError):
        return LMStudioHealth(
            level="error",
            message="LM Studio is unreachable.",
            detail=f"Nothing that speaks HTTP answers at {_shown(url)}. Is its server started?",
        )
    except Exception as unforeseen:
        # Only the type: the text of a client error may repeat the address with its credentials.
        logger.error("LM Studio probe failed: %s", type(unforeseen).__name__)
        return LMStudioHealth(level="error", message="LM Studio could not be asked.")


def _models_url(base_url: str) -> httpx2.URL:
    try:
        url = httpx2.URL(base_url.strip())
    except (httpx2.InvalidURL, ValueError):
        url = httpx2.URL()
    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > 65535:
        raise _Unhealthy(
            "The address of LM Studio is not valid.",
            "LM_STUDIO_BASE_URL must look like http://localhost:1234/v1.",
        )
    return url.copy_with(path=url.path.rstrip("/") + "/models", fragment=None)


def _shown(url: httpx2.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


async def _list_models(url: httpx2.URL, timeout_s: float) -> list[str]:
    async with (
        httpx2.AsyncClient(
            trust_env=False, timeout=timeout_s, verify=_verification(url.scheme)
        ) as client,
        client.stream("GET", url) as response,
    ):
        if response.status_code != 200:
            raise _Unhealthy(
                f"LM Studio answered HTTP {response.status_code}.",
                f"Expected 200 from {_shown(url)}.",
            )
        return _model_ids(await _body(response))


def _verification(scheme: str) -> ssl.SSLContext | bool:
    # Loading the authorities takes 30 ms of the event loop, and is not needed without TLS.
    return True if scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def _body(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _ANSWER_LIMIT:
            raise _Unhealthy("LM Studio's answer is too long to be a list of models.")
    return bytes(body)


def _model_ids(body: bytes) -> list[str]:
    try:
        return [entry.id for entry in _model_list.validate_json(body).data]
    except ValidationError:
        raise _Unhealthy(
            "LM Studio's answer is not a list of models.",
            "Expected JSON with the models under 'data', each with an 'id'.",
        ) from None


def _judge(available: list[str], model: str) -> LMStudioHealth:
    if not available:
        raise _Unhealthy("LM Studio has no model loaded.", "Load one and try again.")
    if not any(_same_model(name, model) for name in available):
        return LMStudioHealth(
            level="error",
            message=f"The model {model!r} is not loaded in LM Studio.",
            detail="LM_STUDIO_MODEL must name one of the available models.",
            available_models=available,
        )
    return LMStudioHealth(
        level="ok",
        message=f"LM Studio is ready with {model}.",
        available_models=available,
        target_model_loaded=True,
    )


def _same_model(one: str, other: str) -> bool:
    """Case never counts. A publisher (`qwen/` of `qwen/qwen3-8b`) counts only if both name one."""
    one, other = one.strip().lower(), other.strip().lower()
    if "/" in one and "/" in other:
        return one == other
    return one.rpartition("/")[2] == other.rpartition("/")[2] != ""
