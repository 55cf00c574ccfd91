"""uvicorn's WebSocket protocol, for clients that send what is no frame."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class CalmSockets(WebSocketsSansIOProtocol):
    """uvicorn takes it for certain that a bad frame comes after its answer to the handshake. Before
    that there is no way to say why the connection ends: it is closed.
    """

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:
            self.transport.close()
        else:
            super().handle_parser_exception()
