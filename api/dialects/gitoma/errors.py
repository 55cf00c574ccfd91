"""gitoma's form of errors (`contracts/gitoma.md` §1)."""

from fastapi import FastAPI, Request, Response

from api.edge.errors import Failure, detailed
from api.edge.security import NoToken

NO_TOKEN = "GITOMA_API_TOKEN is not configured on the server."  # noqa: S105 - the contract's sentence


def say_that_there_is_no_token(app: FastAPI) -> None:
    """Answer in gitoma's own words if the server has no token."""

    async def no_token(_: Request, error: Exception) -> Response:
        assert isinstance(error, NoToken)
        return detailed(Failure(error.status_code, NO_TOKEN))

    app.add_exception_handler(NoToken, no_token)
