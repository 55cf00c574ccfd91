"""Every route of the server, including those of mounted applications."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastapi import FastAPI
from starlette.routing import Match, Mount

from api.addresses import Addresses
from api.edge.on_demand import OnDemand
from api.edge.short_cut import ShortCut
from api.native import PREFIX


class Found(NamedTuple):
    method: str
    """The method; WS for a socket."""
    path: str
    """The whole path, with its parameters."""
    route: Any


def below(app: Any) -> Iterator[tuple[str, Any]]:
    """The applications to which an application passes requests, each with its prefix; itself if it
    has routes.
    """
    if isinstance(app, Addresses):
        yield from ((PREFIX, one) for one in applications(app.native))
        for one in (*app.dialects.values(), app.others):
            yield from below(one)
    elif isinstance(app, OnDemand):
        yield from below(app.app)
    elif isinstance(app, ShortCut):
        yield "", app.app
    else:
        yield "", app


def applications(app: Any) -> Iterator[Any]:
    """The applications to which an application passes requests."""
    for _, one in below(app):
        yield one


def every_route(app: Any, prefix: str = "") -> Iterator[Found]:
    """Each route with each of its methods, without HEAD."""
    if isinstance(app, Addresses | OnDemand):
        for own, one in below(app):
            yield from every_route(one, prefix + own)
        return
    for route in app.routes:
        # The framework keeps an included router nested.
        router = getattr(route, "original_router", None)
        if router is not None:
            yield from every_route(router, prefix + route.include_context.prefix)
        elif isinstance(route, Mount):
            yield from every_route(route.app, prefix + route.path)
        else:
            for method in getattr(route, "methods", None) or {"WS"}:
                if method != "HEAD":
                    yield Found(method, prefix + route.path, route)


def documented(app: Any, prefix: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, whole path and description of each operation in the documents."""
    if isinstance(app, Addresses | OnDemand):
        for own, one in below(app):
            yield from documented(one, prefix + own)
        return
    for path, item in app.openapi()["paths"].items():
        for method, operation in item.items():
            yield method.upper(), prefix + path, operation
    for route in app.routes:
        if isinstance(route, Mount) and isinstance(route.app, FastAPI | OnDemand):
            yield from documented(route.app, prefix + route.path)


def answers(app: Any, method: str, path: str) -> bool:
    """Whether a route matches exactly this path."""
    if isinstance(app, Addresses | OnDemand):
        return any(
            path.startswith(own) and answers(one, method, path.removeprefix(own))
            for own, one in below(app)
        )
    kind = "websocket" if method == "WS" else "http"
    scope = {"type": kind, "method": method, "path": path, "headers": [], "path_params": {}}
    for route in app.routes:
        matched, _ = route.matches(scope)
        if matched is not Match.FULL:
            continue
        if not isinstance(route, Mount):
            return True
        if answers(route.app, method, path.removeprefix(route.path)):
            return True
    return False
