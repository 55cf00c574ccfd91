"""``/auth``: signing in and out, with a password or a provider (`contracts/board.md` §2)."""

from collections.abc import Collection
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import Field, ValidationError

from api.edge.answers import json_bytes, position_header
from api.edge.errors import Refusal, documented
from api.edge.security import FOREIGN_PAGE, OPERATOR, WRONG, NoToken, Principal, Security
from api.edge.texts import CARRIABLE, Body
from api.native.profile_json import ChosenPassword, Profile, profile_json
from api.people.oidc import GOOGLE, OpenIdConnect, SignInFailed
from api.people.pages import HOME, LOGIN, PROFILE
from api.people.passwords import LONGEST
from api.people.sign_in import WRONG_PAIR, Entered, SignIn, WrongPair
from domain.account.commands import LONGEST_EMAIL, Directory

LINK_IS_OVER = (
    "This sign-in link was used already, or has expired. The next start of the server prints a new "
    "one; you can also sign in with the server's token."
)

_LONGEST_TOKEN = 1_000

Password = Annotated[str, Field(min_length=1, max_length=LONGEST), CARRIABLE]


class Credentials(Body):
    """An e-mail address and a password."""

    email: Annotated[str, Field(min_length=1, max_length=LONGEST_EMAIL), CARRIABLE]
    password: Password


class ServerToken(Body):
    """The server's token."""

    token: Annotated[str, Field(min_length=1, max_length=_LONGEST_TOKEN), CARRIABLE]


class LinkCode(Body):
    """The code in the sign-in link."""

    code: Annotated[str, Field(min_length=1, max_length=_LONGEST_TOKEN), CARRIABLE]


class PasswordChange(Body):
    """The present password and the new one."""

    current: Password
    new: ChosenPassword


OPERATOR_PROFILE = {
    "id": "operator",
    "email": "",
    "displayName": "operator",
    "avatarUrl": None,
    "authProvider": "token",
    "isAdmin": True,
    "createdAt": 0,
}
"""The profile of the operator, who has the server's token and no account."""


def profile_of(principal: Principal | None, directory: Directory) -> dict[str, Any] | None:
    """The answer of ``/auth/me``. An API token counts as an administrator only with the
    scope admin.
    """
    if principal is None:
        return None
    if principal.user_id is None:
        return OPERATOR_PROFILE if principal.owner == OPERATOR.owner else None
    account = directory.find(principal.user_id)
    return None if account is None else {**profile_json(account), "isAdmin": principal.admin}


def address_of(request: Request) -> str | None:
    """The client's address, as the socket reports it."""
    return request.client.host if request.client is not None else None


_FORM = "application/x-www-form-urlencoded"
_EITHER = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": Credentials.model_json_schema()}
            for kind in ("application/json", _FORM)
        },
    }
}


async def credentials_of(request: Request) -> Credentials:
    """The credentials in a JSON or form body. Raises RequestValidationError for any other body."""
    body = await request.body()
    try:
        if request.headers.get("content-type", "").partition(";")[0].strip() == _FORM:
            fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
            return Credentials.model_validate({name: last[-1] for name, last in fields.items()})
        return Credentials.model_validate_json(body)
    except ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors()]
        raise RequestValidationError(problems) from error
    except ValueError as error:
        raise HTTPException(400, "The form has too many fields.") from error


def refuse_foreign(request: Request, security: Security) -> None:
    """Raises HTTPException 403 for a page of another site, which must not sign its visitors in. A
    program sends neither Origin nor Sec-Fetch-Site, and is allowed.
    """
    from_a_browser = "origin" in request.headers or "sec-fetch-site" in request.headers
    if from_a_browser and not security.own_page(request):
        raise HTTPException(403, FOREIGN_PAGE)


def auth_routes(
    sign_in: SignIn, oidc: OpenIdConnect, security: Security, *, may_register: Collection[str]
) -> APIRouter:
    """The routes. `may_register` lists addresses, and domains such as ``@example.org``, that get an
    account at their first sign-in with a provider.
    """
    router = APIRouter(prefix="/auth", tags=["people"])
    _add_ways_in(router, sign_in, security)
    _add_way_out(router, sign_in, security)
    _add_looking(router, sign_in.people.directory, oidc, security)
    _add_providers(router, sign_in, oidc, may_register)
    _add_password(router, sign_in, security)
    return router


def _entered(sign_in: SignIn, request: Request, entered: Entered, response: Response) -> Response:
    sign_in.cookies.give(response, request, entered.cookie)
    response.headers["x-event-position"] = str(entered.position)
    return response


def _operator_entered(
    sign_in: SignIn, request: Request, done: Entered | None, refusal: str
) -> Response:
    if done is None:
        raise HTTPException(403, refusal)
    return _entered(sign_in, request, done, json_bytes(OPERATOR_PROFILE))


def _add_ways_in(router: APIRouter, sign_in: SignIn, security: Security) -> None:
    directory = sign_in.people.directory

    @router.post(
        "/login",
        summary="Sign in with a password",
        response_model=Profile,
        responses={**documented(400, 403, 413, 422, 429, 503), 401: {"model": Refusal}},
        openapi_extra=_EITHER,
    )
    async def login(request: Request) -> Response:
        """Sets the session cookie. Takes JSON or a form. A browser that posts a form is redirected
        to the profile, or back to the sign-in page.
        """
        refuse_foreign(request, security)
        given = await credentials_of(request)
        browser = "text/html" in request.headers.get("accept", "")
        try:
            done = await sign_in.by_password(
                given.email, given.password, address_of(request), request.state.request_id[:200]
            )
        except WrongPair:
            if browser:
                return RedirectResponse(f"{LOGIN}?error=wrong", 303)
            return JSONResponse({"error": WRONG_PAIR, "detail": WRONG_PAIR}, 401)
        response = (
            RedirectResponse(PROFILE, 303)
            if browser
            else json_bytes(profile_json(directory.get(done.user_id)))
        )
        return _entered(sign_in, request, done, response)

    @router.post(
        "/token",
        summary="Sign in with the server's token",
        response_model=Profile,
        responses=documented(400, 403, 413, 422, 429, 503),
    )
    async def token(body: ServerToken, request: Request) -> Response:
        """Sets the operator's session cookie. 403 for a wrong token."""
        refuse_foreign(request, security)
        if not security.token():
            raise NoToken
        right = security.is_token(body.token.encode())
        request_id = request.state.request_id[:200]
        done = await sign_in.by_token(right, address_of(request), request_id)
        return _operator_entered(sign_in, request, done, WRONG)

    @router.post(
        "/link",
        summary="Sign in with the link that the server has printed",
        response_model=Profile,
        responses=documented(400, 403, 413, 422, 429, 503),
    )
    async def link(body: LinkCode, request: Request) -> Response:
        """Sets the operator's session cookie. 403 if the link was used or has expired."""
        refuse_foreign(request, security)
        request_id = request.state.request_id[:200]
        done = await sign_in.by_link(body.code, address_of(request), request_id)
        return _operator_entered(sign_in, request, done, LINK_IS_OVER)


_FOUND: dict[int | str, dict[str, Any]] = {302: {"description": "On to the page."}}


def _add_way_out(router: APIRouter, sign_in: SignIn, security: Security) -> None:
    async def logout(request: Request) -> Response:
        """Ends the session. A page of another site gets only the redirect, and the session
        stays.
        """
        response = RedirectResponse(HOME, 302)
        if request.headers.get("sec-fetch-site") == "cross-site":
            return response
        principal = security.principal_or_none(request)
        if principal is not None:
            position = await sign_in.leave(principal, principal.context(request))
            if position is not None:
                response.headers["x-event-position"] = str(position)
        sign_in.cookies.take_back(response, request)
        return response

    for method in ("GET", "POST"):
        router.add_api_route(
            "/logout",
            logout,
            methods=[method],
            status_code=302,
            summary="Sign out",
            responses={**_FOUND, **documented(503)},
            response_class=RedirectResponse,
            operation_id=f"logout_{method.lower()}",
        )


def _add_looking(
    router: APIRouter, directory: Directory, oidc: OpenIdConnect, security: Security
) -> None:
    @router.get("/me", summary="Who am I", response_model=Profile | None, responses=documented(503))
    async def me(request: Request) -> Response:
        """The profile; null if nobody is signed in."""
        return json_bytes(profile_of(security.principal_or_none(request), directory))

    @router.get("/google-enabled", summary="Whether Google is a way in")
    async def google_enabled() -> Response:
        return json_bytes({"enabled": GOOGLE in oidc.providers})

    @router.get("/providers", summary="The ways in, for the sign-in page")
    async def providers() -> Response:
        """`password` is false while no account can have one."""
        ways = [
            {"name": provider.name, "label": provider.label, "url": provider.path}
            for provider in oidc.providers.values()
        ]
        nobody = directory.loaded and directory.empty
        return json_bytes({"password": not nobody, "providers": ways})


def _add_providers(
    router: APIRouter, sign_in: SignIn, oidc: OpenIdConnect, may_register: Collection[str]
) -> None:
    async def leave(request: Request, name: str) -> Response:
        if name not in oidc.providers:
            raise HTTPException(404, "There is no such provider.")
        try:
            return await oidc.leave(request, name)
        except SignInFailed as failed:
            return RedirectResponse(f"{LOGIN}?error={failed.reason}", 302)

    async def come_back(request: Request, name: str) -> Response:
        if name not in oidc.providers:
            raise HTTPException(404, "There is no such provider.")
        try:
            sign_in.require_ready()
            claimed = await oidc.come_back(request, name)
            done = await sign_in.by_identity(
                claimed, may_register, address_of(request), request.state.request_id[:200]
            )
        except SignInFailed as failed:
            response: Response = RedirectResponse(f"{LOGIN}?error={failed.reason}", 302)
        else:
            response = _entered(sign_in, request, done, RedirectResponse(PROFILE, 302))
        oidc.forget(response)
        return response

    redirects: dict[str, Any] = {
        "status_code": 302,
        "response_class": RedirectResponse,
        "responses": {**_FOUND, **documented(404, 503)},
    }

    @router.get("/google", summary="Sign in with Google", **redirects)
    async def google(request: Request) -> Response:
        return await leave(request, GOOGLE)

    @router.get("/google/callback", summary="Back from Google", **redirects)
    async def google_callback(request: Request) -> Response:
        return await come_back(request, GOOGLE)

    @router.get("/oidc/{name}", summary="Sign in with a provider", **redirects)
    async def oidc_leave(request: Request, name: str) -> Response:
        return await leave(request, name)

    @router.get("/oidc/{name}/callback", summary="Back from a provider", **redirects)
    async def oidc_come_back(request: Request, name: str) -> Response:
        return await come_back(request, name)


def _add_password(router: APIRouter, sign_in: SignIn, security: Security) -> None:
    @router.post(
        "/password",
        summary="Change one's own password",
        responses=documented(400, 401, 403, 409, 422, 429, 503),
    )
    async def change_password(body: PasswordChange, request: Request) -> Response:
        """Needs a session cookie. Ends every other session of the account."""
        principal = security.authenticate(request, "POST")
        person = await sign_in.change_password(
            principal, body.current, body.new, address_of(request), principal.context(request)
        )
        return json_bytes({"ok": True}, headers=position_header(person.position))
