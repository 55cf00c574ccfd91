"""Settings: one class, from the command line, the environment, and a TOML file, in that order.

Each is ``CREWLOG_<NAME>`` in the environment and ``<name>`` in the file; gitoma's own variables
work as aliases (`contracts/gitoma.md` §10). Only the composition root and the command line read
this module.
"""

import os
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from api.dialects import DIALECTS
from api.doors import Door, known_dialect
from api.edge.middleware import DEFAULT_ALLOWED_HOSTS, host_pattern
from domain.errors import BadInput
from domain.schedule.wall_clock import zone_of

SHORTEST_SECRET = 8
"""Characters. The redactor ignores shorter secrets: they would be found in ordinary words."""


def _default_data() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "crewlog"


def _also(name: str, alias: str) -> AliasChoices:
    """A setting with a second variable. Its own name comes first: it is stronger, and it is the key
    by which the sources are merged.
    """
    return AliasChoices(f"crewlog_{name}", alias)


Names = Annotated[tuple[str, ...], NoDecode]
"""A list, separated by commas in the environment."""


Listened = Annotated[tuple[Door, ...], NoDecode]
"""Addresses of dialects, each ``NAME=HOST:PORT``, separated by commas in the environment."""


Paths = Annotated[tuple[Path, ...], NoDecode]
"""A list of directories, written in the environment as PATH is."""


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


class OidcProvider(BaseModel):
    """An OpenID Connect provider: `issuer` is its URL, without ``/.well-known/…``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str
    client_id: str
    client_secret: SecretStr
    label: str = ""
    """Its name on the sign-in page; without it, its name in the settings."""


class Settings(BaseSettings):
    """Every setting of the server, with its default. Times end in `_s` (seconds), sizes in
    `_bytes`.
    """

    model_config = SettingsConfigDict(
        env_prefix="CREWLOG_",
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    dialects: Names = Field(
        DIALECTS, description="Dialects that are served at the main address, beside the native API."
    )
    listen: Listened = Field(
        (),
        description="Addresses of one dialect alone, each `NAME=HOST:PORT`, from the same process.",
    )
    data: Path = Field(
        default_factory=_default_data,
        description="Data directory: the log, the views, spools. One server each.",
    )
    token: SecretStr | None = Field(
        None,
        validation_alias=_also("token", "gitoma_api_token"),
        description="The server's bearer token, of at least 8 characters. Without one, a token is "
        "made on first start.",
    )
    log_level: str = Field("info", description="debug, info, warning or error.")
    capacity: int = Field(
        max(4, os.cpu_count() or 1), ge=0, le=1024, description="Jobs that run at a time."
    )
    owner_capacity: int = Field(
        0, ge=0, le=1024, description="Jobs of one owner that run at a time; 0 is no such limit."
    )
    timezone: str = Field("UTC", description="IANA zone of a schedule that names none.")
    templates: Paths = Field(
        (),
        description="Directories of templates, before those in the data directory and those that "
        "come with crewlog.",
    )
    agent_command: str = Field(
        "", description="Program that runs an agent; {assignee} in it becomes the agent's name."
    )
    artifact_limit_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="Size of all files kept of one attempt."
    )
    job_timeout_s: int = Field(
        86_400, ge=0, description="Time limit of a job that names none; 0 is none."
    )
    output_limit_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="Output kept of one attempt; what is over is dropped."
    )
    stop_jobs: bool = Field(False, description="Cancel running jobs when the server is stopped.")
    workdir: Path = Field(
        default_factory=Path.cwd, description="Working directory of jobs that name none."
    )
    allowed_hosts: Names = Field(
        DEFAULT_ALLOWED_HOSTS,
        validation_alias=_also("allowed_hosts", "gitoma_allowed_hosts"),
        description="Host headers that are answered.",
    )
    cors_origins: Names = Field(
        (),
        validation_alias=_also("cors_origins", "gitoma_cors_origins"),
        description="Origins whose pages may call this server.",
    )
    ws_allowed_origins: Names = Field(
        (),
        validation_alias=_also("ws_allowed_origins", "gitoma_ws_allowed_origins"),
        description="Origins whose pages may open the state socket, beside this server's own.",
    )
    gitoma_command: str = Field("gitoma", description="Program that the gitoma dispatches run.")
    gitoma_state_dir: Path = Field(
        default_factory=lambda: Path("~/.gitoma/state").expanduser(),
        description="Directory of gitoma's state files.",
    )
    gitoma_timeout_s: int = Field(3600, ge=0, description="Time limit of a gitoma dispatch.")
    gitoma_rate_limit: int = Field(
        20, ge=1, description="gitoma dispatches that one person may make a minute."
    )
    lm_studio_base_url: str = Field(
        "http://localhost:1234/v1",
        validation_alias=AliasChoices("lm_studio_base_url"),
        description="LM Studio, whose state the gitoma health check reports.",
    )
    lm_studio_model: str = Field(
        "",
        validation_alias=AliasChoices("lm_studio_model"),
        description="Model that LM Studio should have loaded.",
    )
    github_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("github_token"),
        description="Only whether it is set is reported; jobs see it in their environment.",
    )

    admin_email: str = Field(
        "", description="An administrator who is made at the start if there is no such account."
    )
    admin_password: SecretStr | None = Field(None, description="That administrator's password.")
    session_secret: SecretStr | None = Field(
        None, min_length=16, description="Signs session cookies. Without one, a key is made."
    )
    session_cookie_secure: Literal["auto", "always", "never"] = Field(
        "auto", description="Whether the session cookie is for https alone: auto, always or never."
    )
    public_url: str = Field(
        "",
        pattern=r"^(https?://[^/?#\s]+)?/?$",
        description="Where browsers reach this server, if a proxy stands before it.",
    )
    google_client_id: str = Field(
        "",
        validation_alias=AliasChoices("google_client_id"),
        description="What Google knows this server as.",
    )
    google_client_secret: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("google_client_secret"),
        description="Its secret. With both, people can sign in with Google.",
    )
    google_discovery_url: str = Field(
        "https://accounts.google.com/.well-known/openid-configuration",
        description="Where Google says how to sign in with it.",
    )
    oidc: dict[Annotated[str, Field(pattern="^[a-z0-9][a-z0-9-]{0,31}$")], OidcProvider] = Field(
        default_factory=dict, description="Other OpenID Connect providers, by name."
    )
    oidc_allow: Names = Field(
        (),
        description="Addresses, or domains as @example.org, that get an account when they first "
        "sign in with a provider; * for any.",
    )

    @field_validator(
        "allowed_hosts",
        "cors_origins",
        "dialects",
        "oidc_allow",
        "ws_allowed_origins",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return _parts(value) if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in filter(str.strip, value):
            host_pattern(entry)
        return value

    @field_validator("dialects")
    @classmethod
    def _are_dialects(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(known_dialect, value))

    @field_validator("listen", mode="before")
    @classmethod
    def _are_doors(cls, value: Any) -> Any:
        entries = _parts(value) if isinstance(value, str) else value
        return tuple(Door.parse(one) if isinstance(one, str) else one for one in entries)

    @field_validator("token")
    @classmethod
    def _can_be_redacted(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and 0 < len(value.get_secret_value()) < SHORTEST_SECRET:
            raise ValueError(f"A token must have at least {SHORTEST_SECRET} characters.")
        return value

    @field_validator("agent_command", "gitoma_command")
    @classmethod
    def _can_be_split(cls, value: str) -> str:
        shlex.split(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        # As a schedule's zone is checked: a default that schedules refuse would be worth nothing.
        try:
            zone_of(value)
        except BadInput:
            raise ValueError(f"{value!r} is not an IANA time zone.") from None
        return value

    @field_validator("templates", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part for part in value.split(os.pathsep) if part]
        return tuple(Path(part).expanduser().absolute() for part in value)

    @field_validator("data", "workdir", "gitoma_state_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get("CREWLOG_CONFIG")
        if file is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(file))
