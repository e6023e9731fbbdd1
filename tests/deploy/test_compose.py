"""`deploy/compose.yaml`: valid, without passwords of its own, and of one mind with the image and the code."""

import json
import os
import re
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
import yaml

from app.lib.settings import CHECKOUT, Settings
from app.server.commands.jobs import GRACE
from app.server.commands.serve import DRAIN
from app.server.doctor.database import Load
from app.server.envelope import longest_request
from tests.dockerfile import stages

pytestmark = pytest.mark.unit

DEPLOY = CHECKOUT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CONNECTIONS = 97
"""What PostgreSQL allows where nobody has changed it, without those for superusers."""
OURS = ("migrate", "api", "worker")
VARIABLE = re.compile(r"\$\{(\w+)(:?[-?])?([^}]*)\}")
SCHEMAS = files("check_jsonschema") / "builtin_schemas" / "vendor"
OF_COMPOSE = {"KEEL_TAG", "KEEL_PORT", "KEEL_PROCESSES", "OWNER_PASSWORD"}


def texts(value: Any) -> list[str]:
    """All strings in it."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", ["compose.yaml", "compose.development.yaml"])
def test_it_is_what_the_specification_calls_valid(name: str) -> None:
    schema = json.loads((SCHEMAS / "compose-spec.json").read_text())

    jsonschema.validate(yaml.safe_load((DEPLOY / name).read_text()), schema)


def test_workflows_are_valid_too() -> None:
    schema = json.loads((SCHEMAS / "github-workflows.json").read_text())

    for path in (CHECKOUT / ".github").glob("workflows/*.yml"):
        workflow = yaml.safe_load(path.read_text())
        workflow["on"] = workflow.pop(True)  # YAML 1.1, which PyYAML reads, calls it so
        jsonschema.validate(workflow, schema)


def test_every_password_must_be_given() -> None:
    secret = re.compile(r"SECRET_KEY|\w+_PASSWORD")
    optional = {"SMTP_PASSWORD"}
    found = [match for text in texts(COMPOSE) for match in VARIABLE.findall(text) if secret.fullmatch(match[0])]
    given = [match for match in found if match[0] not in optional]

    assert {name for name, _, _ in given} == {"SECRET_KEY", "DB_PASSWORD", "OWNER_PASSWORD", "REDIS_PASSWORD"}
    assert {operator for _, operator, _ in given} == {":?"}


def test_the_application_has_not_the_account_that_owns_the_tables() -> None:
    services = COMPOSE["services"]
    store = services["postgres"]["environment"]
    accounts = {name: services[name]["environment"] for name in OURS}
    [script] = [each for each in services["postgres"]["volumes"] if "/docker-entrypoint-initdb.d/" in each]
    path = DEPLOY / script.split(":")[0]

    assert {name: each["DB_USER"] for name, each in accounts.items()} == {
        "migrate": store["POSTGRES_USER"],
        "api": "keel_app",
        "worker": "keel_app",
    }
    assert [each["DB_PASSWORD"][:13] for each in accounts.values()] == [
        "${OWNER_PASSW",
        "${DB_PASSWORD",
        "${DB_PASSWORD",
    ]
    assert (store["POSTGRES_PASSWORD"][:13], store["APP_PASSWORD"][:13]) == ("${OWNER_PASSW", "${DB_PASSWORD")
    assert os.access(path, os.X_OK), "the image would read it in instead of running it"
    assert "CREATE ROLE keel_app " in path.read_text()


def test_its_variables_are_settings_and_stand_in_the_example() -> None:
    known = {name.upper() for name in Settings.model_fields}
    development = yaml.safe_load((DEPLOY / "compose.development.yaml").read_text())
    asked = {name for text in texts(COMPOSE) for name, _, _ in VARIABLE.findall(text)}
    example = re.findall(r"^#?([A-Z_]+)=", (DEPLOY / "compose.env.example").read_text(), re.MULTILINE)

    assert set(COMPOSE["x-keel"]["environment"]) | set(development["x-development"]["environment"]) <= known
    assert sorted(example) == sorted(asked)
    assert asked - OF_COMPOSE <= known


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_no_service_can_do_more_than_it_must(name: str) -> None:
    service = COMPOSE["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert name in OURS or service["user"] == name


def test_stores_are_reached_by_the_application_alone() -> None:
    assert COMPOSE["networks"]["stores"]["internal"] is True
    for name, service in COMPOSE["services"].items():
        if name not in OURS:
            assert service["networks"] == ["stores"]
            assert "ports" not in service
    [port] = COMPOSE["services"]["api"]["ports"]
    assert port.startswith("127.0.0.1:")
    assert port.endswith(f":{stages(DEPLOY / 'Dockerfile')['production'].last('EXPOSE')}")


def test_nobody_is_killed_who_may_still_end_in_order(settings: Settings) -> None:
    api, worker = (COMPOSE["services"][name]["stop_grace_period"] for name in ("api", "worker"))

    assert seconds(api) > DRAIN + longest_request(settings)
    assert seconds(worker) > GRACE


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([sm])", duration).groups()  # type: ignore[union-attr]  # else it fails
    return int(number) * {"s": 1, "m": 60}[unit]


def test_the_application_starts_after_the_migrations_and_files_are_shared() -> None:
    services = COMPOSE["services"]

    for name in ("api", "worker"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert services[name]["volumes"] == ["files:/var/lib/keel/files"]
        assert services[name]["restart"] == "unless-stopped"
    assert services["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("stage", ["production", "development"])
def test_the_volume_of_files_belongs_to_who_writes_to_it(stage: str) -> None:
    """A volume that is mounted for the first time takes over whose the directory in the image is."""
    built = stages(DEPLOY / "Dockerfile")[stage]
    user, _, group = built.last("USER").partition(":")
    made = [each for each in built.all("RUN") if each.startswith(f"install --directory --owner {user} --group {group}")]

    assert "/var/lib/keel/files" in {word for each in made for word in each.split()}


def test_development_has_volumes_of_its_own() -> None:
    development = yaml.safe_load((DEPLOY / "compose.development.yaml").read_text())

    assert development["name"] == "keel-development" != COMPOSE["name"]
    assert not any("name" in (volume or {}) for volume in COMPOSE["volumes"].values())


def test_its_processes_open_fewer_connections_than_the_store_allows(settings: Settings) -> None:
    _, option, processes = COMPOSE["services"]["api"]["command"]
    [(variable, _, default)] = VARIABLE.findall(processes)

    assert (option, variable) == ("--workers", "KEEL_PROCESSES")
    assert Load(processes=int(default), workers=1).connections(settings) <= CONNECTIONS


def test_the_store_is_not_healthy_before_it_listens_to_others() -> None:
    """While it makes its database, the image has a server that listens on the Unix socket alone."""
    check = COMPOSE["services"]["postgres"]["healthcheck"]["test"]

    assert check[:4] == ["CMD", "pg_isready", "--host", "127.0.0.1"]
