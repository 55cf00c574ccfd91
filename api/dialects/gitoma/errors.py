"""How gitoma shows what has failed (`contracts/gitoma.md` §1)."""

from fastapi import FastAPI, Request, Response

from api.edge.errors import Failure, detailed
from api.edge.security import NoToken

NO_TOKEN = "GITOMA_API_TOKEN is not configured on the server."  # noqa: S105 - the contract's sentence


def say_that_there_is_no_token(app: FastAPI) -> None:
    """In gitoma's own words."""

    async def no_token(_: Request, error: Exception) -> Response:
        assert isinstance(error, NoToken)
        return detailed(Failure(error.status_code, NO_TOKEN))

    app.add_exception_handler(NoToken, no_token)
