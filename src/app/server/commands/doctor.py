"""`litestar doctor` and `litestar check`. Like `server/commands/up.py`, it imports no feature."""

import sys
from collections.abc import Iterable

import rich_click as click
from litestar import Litestar

from app.server.commands.refusals import echo_items, json_option, plain_refusals
from app.server.doctor.findings import Finding, Level

fail_on = click.option(
    "--fail-on",
    type=click.Choice([Level.FAULT.value, Level.WARNING.value]),
    default=Level.FAULT.value,
    show_default=True,
    help="The least that makes the exit code 1.",
)


@click.command()
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Of the API, in all groups, on all machines.  [default: 1; in production, as one `serve` has them here]",
)
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help="That run jobs, on all machines.")
@fail_on
@json_option
def doctor(app: Litestar, processes: int | None, workers: int, fail_on: str, *, as_json: bool) -> None:
    """Ask the database, Redis, the mail server and all else that is needed, and say what is wrong and its mend.

    Nothing is changed. It works also when the settings are at fault, or the database is away.
    """
    found = app.state.doctor.examine(app, processes=processes, workers=workers)
    with plain_refusals():
        _conclude(found, fail_on=fail_on, as_json=as_json)


@click.command()
@click.option("--deploy", is_flag=True, help="As production would see them, and what would be unwise there.")
@fail_on
@json_option
def check(app: Litestar, fail_on: str, *, deploy: bool, as_json: bool) -> None:
    """Look at the settings and the routes, and ask nobody: for a build, or before a deployment."""
    with plain_refusals():
        _conclude(app.state.doctor.check(deploy=deploy), fail_on=fail_on, as_json=as_json)


def _conclude(findings: Iterable[Finding], *, fail_on: str, as_json: bool) -> None:
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            click.echo(f"{finding.level:7}  {finding.check}: {finding.what} {finding.mend}".rstrip())
    faults, warnings = ([each for each in found if each.level is level] for level in (Level.FAULT, Level.WARNING))
    if as_json:
        echo_items(found, faults=len(faults), warnings=len(warnings))
    else:
        click.echo(f"\n{_counted(len(faults), 'fault')}, {_counted(len(warnings), 'warning')}.")
    sys.exit(1 if faults or (warnings and fail_on == Level.WARNING) else 0)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
