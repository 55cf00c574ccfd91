"""People for the end-to-end tests: accounts of a running server, and clients that act as them."""

from typing import Any

from tests.kit.client import Native
from tests.kit.server import Server

PASSWORD = "correct horse battery"


def client(server: Server, token: str | None = None) -> Native:
    """A client without an identity, or with that of a token."""
    return Native(server, {} if token is None else {"Authorization": f"Bearer {token}"})


def add_user(server: Server, email: str, role: str = "user", **fields: Any) -> dict[str, Any]:
    """Make an account with PASSWORD. Returns it as administrators see it."""
    body = {"email": email, "role": role, "password": PASSWORD, **fields}
    with Native(server) as operator:
        answer = operator.post("/crewlog/v1/users", json=body)
    assert answer.status_code == 201, answer.text
    user: dict[str, Any] = answer.json()
    return user


def sign_in(server: Server, email: str, password: str = PASSWORD) -> Native:
    """A client like a browser in which this person has signed in."""
    with client(server) as at_the_door:
        answer = at_the_door.post("/auth/login", json={"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    browser = client(server)
    browser.headers["Origin"] = server.url
    browser.cookies.update(at_the_door.cookies)
    return browser


def issue_token(server: Server, user_id: str, *scopes: str, **fields: Any) -> str:
    """An API token of a person."""
    body = {"name": "test", "scopes": scopes, **fields}
    with Native(server) as operator:
        answer = operator.post(f"/crewlog/v1/users/{user_id}/tokens", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])
