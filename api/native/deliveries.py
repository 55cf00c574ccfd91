"""``/deliveries``, for administrators: deliveries and their outcomes, and sending again."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict

from api.edge.answers import json_bytes, position_header
from api.edge.security import Admin
from api.native.pages import Page, page
from api.native.problems import SECURED, documented
from domain.delivery.aggregate import Delivery, DeliveryState
from domain.delivery.commands import Deliveries
from projections.deliveries import find_delivery, list_deliveries
from projections.engine import Views
from projections.projection import Row


class DeliveryObject(BaseModel):
    """A delivery and its outcome."""

    model_config = ConfigDict(extra="forbid")

    id: str
    channel: str
    receiver: str
    eventId: str
    eventPosition: int
    state: DeliveryState
    tries: int
    dueAt: str | None
    status: int | None
    reason: str | None
    requestedAt: str
    updatedAt: str
    position: int


def delivery_routes(deliveries: Deliveries, views: Views) -> APIRouter:
    router = APIRouter(prefix="/deliveries", tags=["deliveries"], responses=SECURED)

    async def seen(delivery_id: str) -> Row:
        def look() -> Row:
            with views.reading() as reading:
                return find_delivery(reading, delivery_id)

        await views.caught_up()
        return await run_in_threadpool(look)

    @router.get("", summary="List deliveries, newest first", response_model=Page[DeliveryObject])
    async def listed(
        principal: Admin,
        state: Annotated[DeliveryState | None, Query()] = None,
        cursor: Annotated[int | None, Query(ge=1, le=2**62)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Response:
        def look() -> tuple[list[Row], bool]:
            with views.reading() as reading:
                return list_deliveries(reading, state=state, before=cursor, limit=limit)

        await views.caught_up()
        rows, more = await run_in_threadpool(look)
        following = str(rows[-1]["position"]) if more else None
        return page(list(map(delivery_json, rows)), following)

    @router.get(
        "/{delivery_id}",
        summary="One of them",
        response_model=DeliveryObject,
        responses=documented(404),
    )
    async def one(delivery_id: str, principal: Admin) -> Response:
        return json_bytes(delivery_json(await seen(delivery_id)))

    @router.post(
        "/{delivery_id}/retry",
        summary="Have one sent again that was given up",
        response_model=DeliveryObject,
        responses=documented(404, 409),
    )
    async def retry(request: Request, delivery_id: str, principal: Admin) -> Response:
        """It is sent with the same idempotency key. Its tries are counted from 0 again."""
        context = principal.context(request)
        position = await deliveries.execute(delivery_id, Delivery.renew, context)
        return json_bytes(delivery_json(await seen(delivery_id)), 200, position_header(position))

    return router


def delivery_json(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "channel": row["channel"],
        "receiver": row["receiver"],
        "eventId": row["event"],
        "eventPosition": row["event_position"],
        "state": row["state"],
        "tries": row["tries"],
        "dueAt": row["due_at"],
        "status": row["status"],
        "reason": row["reason"],
        "requestedAt": row["requested_at"],
        "updatedAt": row["updated_at"],
        "position": row["position"],
    }
