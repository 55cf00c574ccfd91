"""`crewlog schedules`: make, list, show, enable, disable, fire and delete schedules."""

import json
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from api.commands import terminal
from api.commands.options import API, AsJson, Data, Token, Url, connect
from api.commands.template_names import naming
from domain.errors import CrewlogError
from domain.numbers import parse_json

if TYPE_CHECKING:
    from api.commands.client import Client

app = typer.Typer(no_args_is_help=True, help="Schedules: templates that run at certain times.")

_PATH = f"{API}/schedules"
_STATES = {"active": "green", "paused": "red", "disabled": "yellow", "ended": "blue"}
_OUTCOMES = {"spawned": "green", "failed": "red", "skipped": "yellow", "missed": "magenta"}
_FIRINGS = 10
_TIMES = 5

ScheduleId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the schedule, its beginning, or its name.")
]
Cron = Annotated[str | None, typer.Option(help="A crontab's five fields, such as '*/5 * * * *'.")]
Rrule = Annotated[str | None, typer.Option(help="A recurrence rule of RFC 5545.")]
Once = Annotated[str | None, typer.Option(metavar="TIME", help="Once, at this ISO 8601 time.")]
Daily = Annotated[str | None, typer.Option(metavar="HH:MM", help="Every day at this time.")]
Weekly = Annotated[
    str | None, typer.Option(metavar="DAYS", help="On these days, such as mon,wed,fri; see --at.")
]
Monthly = Annotated[
    int | None, typer.Option(metavar="DAY", help="On this day of the month, or its last; see --at.")
]
Hours = Annotated[int | None, typer.Option("--every-hours", metavar="N", help="Every N hours.")]
Minutes = Annotated[
    int | None, typer.Option("--every-minutes", metavar="N", help="Every N minutes.")
]
At = Annotated[str | None, typer.Option(metavar="HH:MM", help="Time of day. Default: 09:00.")]
RuleJson = Annotated[str | None, typer.Option("--rule", metavar="JSON", help="A rule as JSON.")]
Zone = Annotated[
    str | None,
    typer.Option("--timezone", metavar="ZONE", help="An IANA time zone. Default: the server's."),
]


class NoSuchSchedule(CrewlogError):
    """An id, the beginning of one, or a name does not name exactly one schedule."""


@app.command("list")
def list_schedules(
    mine: Annotated[bool, typer.Option("--mine", help="Only my own.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """List schedules, newest first."""
    with connect(url, token, data) as client:
        schedules = list(client.items(_PATH, mine=True if mine else None))
    if as_json:
        terminal.print_json(schedules)
        return
    if not schedules:
        terminal.notice("No schedules.")
        return
    terminal.print_table(
        ("ID", "STATE", "NEXT", "LAST", "OUTCOME", "NAME"),
        (
            (
                terminal.short_id(schedule["id"]),
                _state(schedule),
                terminal.moment(schedule["nextRunAt"]),
                terminal.ago(schedule["lastRunAt"]),
                _outcome(schedule["lastOutcome"]),
                schedule["name"],
            )
            for schedule in schedules
        ),
        flexible=("NAME",),
        optional=("OUTCOME", "LAST"),
    )


@app.command()
def show(
    schedule_id: ScheduleId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Show a schedule, its next times, and its last firings."""
    with connect(url, token, data) as client:
        path = _resolve(client, schedule_id)
        schedule = client.get(path)
        times = (
            client.get(f"{path}/preview", n=_TIMES)["times"]
            if schedule["state"] == "active"
            else []
        )
        firings = client.get(f"{path}/firings", limit=_FIRINGS)["items"]
    if as_json:
        terminal.print_json({**schedule, "nextTimes": times, "lastFirings": firings})
        return
    terminal.print_fields(_details(schedule, times))
    if firings:
        terminal.console().print()
        _print_firings(firings)


@app.command()
def create(
    template: Annotated[str, typer.Argument(metavar="TEMPLATE", help="Id of the template.")],
    name: Annotated[str | None, typer.Option(help="Default: the template's id.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="K=V",
            help="An input. V is read as JSON, otherwise as text. Repeatable.",
        ),
    ] = None,
    cron: Cron = None,
    rrule: Rrule = None,
    once: Once = None,
    daily: Daily = None,
    weekly: Weekly = None,
    monthly: Monthly = None,
    every_hours: Hours = None,
    every_minutes: Minutes = None,
    at: At = None,
    rule: RuleJson = None,
    timezone: Zone = None,
    catch_up: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="latest, none, or a window such as 24h to catch up all."),
    ] = None,
    overlap: Annotated[str | None, typer.Option(help="allow, skip or cancel.")] = None,
    jitter: Annotated[
        float | None, typer.Option(metavar="S", help="Fire up to S seconds later, at random.")
    ] = None,
    ends_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="No time after this one.")
    ] = None,
    max_firings: Annotated[int | None, typer.Option(metavar="N", help="No oftener.")] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Do not let it fire yet.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Make a schedule. Give exactly one option that says when it fires."""
    spec = _rule(
        cron=cron,
        rrule=rrule,
        once=once,
        daily=daily,
        weekly=weekly,
        monthly=monthly,
        hours=every_hours,
        minutes=every_minutes,
        at=at,
        rule=rule,
    )
    body = {
        "name": name or template,
        "template": template,
        "inputs": _inputs(inputs or []),
        "rule": spec,
        "timezone": timezone,
        "catchUp": catch_up if catch_up in (None, "latest", "none") else {"all": catch_up},
        "overlap": overlap,
        "jitterS": jitter,
        "endsAt": ends_at,
        "maxFirings": max_firings,
        "enabled": not disabled,
    }
    with connect(url, token, data) as client, naming(template):
        made = client.post(_PATH, body)
    _told(made, as_json, made["id"])


@app.command()
def enable(
    schedule_id: ScheduleId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Let a schedule fire, from its next time on."""
    with connect(url, token, data) as client:
        schedule = client.post(f"{_resolve(client, schedule_id)}/enable")
    following = terminal.moment(schedule["nextRunAt"])
    _told(schedule, as_json, f"{schedule['name']} is enabled; its next time is {following}.")


@app.command()
def disable(
    schedule_id: ScheduleId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Disable a schedule until it is enabled. Running jobs go on."""
    with connect(url, token, data) as client:
        schedule = client.post(f"{_resolve(client, schedule_id)}/disable")
    _told(schedule, as_json, f"{schedule['name']} is disabled.")


@app.command()
def run(
    schedule_id: ScheduleId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Fire a schedule now, even if it is disabled. Prints the ids of the jobs."""
    with connect(url, token, data) as client:
        made = client.post(f"{_resolve(client, schedule_id)}/run-now")
    if as_json:
        terminal.print_json(made)
        return
    terminal.notice(f"Crew {made['crewId']}")
    for job_id in made["jobIds"]:
        terminal.write_line(job_id)


@app.command()
def preview(
    schedule_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="A schedule. Without it: the rule in the options."),
    ] = None,
    cron: Cron = None,
    rrule: Rrule = None,
    once: Once = None,
    daily: Daily = None,
    weekly: Weekly = None,
    monthly: Monthly = None,
    every_hours: Hours = None,
    every_minutes: Minutes = None,
    at: At = None,
    rule: RuleJson = None,
    timezone: Zone = None,
    n: Annotated[int, typer.Option("-n", min=1, max=100, help="How many.")] = 10,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Print the next times of a schedule, or of a rule that is not saved."""
    with connect(url, token, data) as client:
        if schedule_id is not None:
            times = client.get(f"{_resolve(client, schedule_id)}/preview", n=n)
        else:
            spec = _rule(
                cron=cron,
                rrule=rrule,
                once=once,
                daily=daily,
                weekly=weekly,
                monthly=monthly,
                hours=every_hours,
                minutes=every_minutes,
                at=at,
                rule=rule,
            )
            body = {"rule": spec, "timezone": timezone, "n": n}
            times = client.post(f"{_PATH}/preview", body)
    if as_json:
        terminal.print_json(times)
        return
    terminal.notice(times["ruleText"])
    for moment in times["times"]:
        terminal.write_line(terminal.moment(moment))


@app.command()
def delete(
    schedule_id: ScheduleId,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
) -> None:
    """Delete a schedule. The jobs that it made stay."""
    with connect(url, token, data) as client:
        answer = client.delete(_resolve(client, schedule_id))
    _told(answer, as_json, "Deleted.")


def _resolve(client: "Client", given: str) -> str:
    """The path of the schedule that `given` identifies."""
    if len(given) < 36:
        schedules = list(client.items(_PATH))
        found = [s for s in schedules if s["name"] == given] or [
            s for s in schedules if s["id"].startswith(given.lower())
        ]
        if len(found) != 1:
            raise NoSuchSchedule(
                f"{len(found) or 'No'} schedules have the name or id {given!r}. "
                "List them: crewlog schedules list"
            )
        given = found[0]["id"]
    return f"{_PATH}/{quote(given, safe='')}"


def _rule(*, at: str | None, rule: str | None, **given: Any) -> dict[str, Any]:
    """The rule that the options describe."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) + (rule is not None) != 1:
        raise typer.BadParameter("Give exactly one option that says when, such as --cron.")
    if rule is not None:
        return _json_rule(rule)
    ((name, value),) = chosen.items()
    if name in ("cron", "rrule", "once"):
        return {name: value}
    spec = {
        "daily": {"cadence": "daily", "at": value},
        "weekly": {"cadence": "weekly", "days": value},
        "monthly": {"cadence": "monthly", "dayOfMonth": value},
        "hours": {"cadence": "hourly", "everyHours": value},
        "minutes": {"cadence": "minutely", "everyMinutes": value},
    }[name]
    return spec if at is None else {**spec, "at": at}


def _json_rule(text: str) -> dict[str, Any]:
    try:
        spec = json.loads(text)
    except ValueError:
        spec = None
    if not isinstance(spec, dict):
        raise typer.BadParameter("This is not a JSON object.", param_hint="--rule")
    return spec


def _inputs(given: list[str]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{pair!r} must be NAME=VALUE.", param_hint="--input")
        try:
            inputs[name] = parse_json(text)
        except ValueError:
            inputs[name] = text
    return inputs


def _told(shown: Any, as_json: bool, sentence: str) -> None:
    if as_json:
        terminal.print_json(shown)
    else:
        terminal.write_line(sentence)


def _state(schedule: dict[str, Any]) -> terminal.Cell:
    return schedule["state"], _STATES.get(schedule["state"], "")


def _outcome(outcome: str | None) -> terminal.Cell:
    return outcome or "-", _OUTCOMES.get(outcome or "", "")


def _details(schedule: dict[str, Any], times: list[str]) -> list[tuple[str, terminal.Cell]]:
    catch_up = schedule["catchUp"]
    if isinstance(catch_up, dict):
        catch_up = f"all within {catch_up['windowS']:g} s"
    fields: list[tuple[str, terminal.Cell]] = [
        ("Schedule", schedule["id"]),
        ("Name", schedule["name"]),
        ("State", _state(schedule)),
        ("Template", schedule["template"]),
        ("Inputs", json.dumps(schedule["inputs"], ensure_ascii=False)),
        ("When", schedule["ruleText"]),
        ("Catch-up", catch_up),
        ("Overlap", schedule["overlap"]),
        ("Owner", schedule["ownerId"]),
        (
            "Fired",
            f"{schedule['firings']} times; missed {schedule['missed']}, "
            f"skipped {schedule['skipped']}",
        ),
    ]
    if schedule["stateReason"]:
        fields.append(("Reason", (schedule["stateReason"], "red")))
    if schedule["lastError"]:
        fields.append(("Last error", (schedule["lastError"], "red")))
    fields += [("Next" if n == 0 else "", terminal.moment(t)) for n, t in enumerate(times)]
    return fields


def _print_firings(firings: list[dict[str, Any]]) -> None:
    terminal.print_table(
        ("TIME", "LATE", "OUTCOME", "CREW", "REASON"),
        (
            (
                terminal.moment(firing["nominal"]),
                terminal.duration(firing["lateMs"]),
                _outcome(firing["outcome"]),
                firing["crewId"] or "-",
                firing["reason"] or ("by hand" if firing["manual"] else ""),
            )
            for firing in firings
        ),
        flexible=("REASON",),
        optional=("CREW",),
    )
