"""The command line."""

import typer

app = typer.Typer()


@app.callback()
def _root() -> None: ...


@app.command()
def serve(host: str = "127.0.0.1", port: int = 8080, data: str = "") -> None:
    from api.server import serve as run
    from api.settings import Settings

    run(Settings(host=host, port=port, data=data))


def main() -> None:
    app()
