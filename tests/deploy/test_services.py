"""The units of systemd and the configuration of nginx agree with each other and with the code."""

import re
import shlex
from collections import defaultdict
from string import Template

import pytest

from app.lib.settings import CHECKOUT, Settings
from app.server.commands.jobs import worker
from app.server.commands.serve import serve
from app.server.doctor.database import Load
from app.server.envelope import longest_request

pytestmark = pytest.mark.unit

SYSTEMD = CHECKOUT / "deploy" / "systemd"
NGINX = (CHECKOUT / "deploy" / "nginx.conf").read_text()


def unit(name: str) -> dict[str, list[str]]:
    """Every value of each name, whatever section it is in."""
    values = defaultdict(list)
    for line in (SYSTEMD / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values[key].append(value)
    return values


@pytest.mark.parametrize("name", ["keel@.service", "keel-worker.service"])
def test_nobody_is_killed_who_may_still_end_in_order(name: str, settings: Settings) -> None:
    [start], [patience] = unit(name)["ExecStart"], unit(name)["TimeoutStopSec"]
    default = dict(each.split("=", 1) for each in unit(name)["Environment"])
    _, command, *options = shlex.split(Template(start).safe_substitute(default))

    context = {"serve": serve, "worker": worker}[command].make_context(command, options)

    needed = context.params.get("drain", 0) + (context.params["grace"] or longest_request(settings))
    assert int(patience) > needed
    assert unit(name)["KillMode"] == ["mixed"]


def test_both_groups_and_the_worker_open_fewer_connections_than_postgresql_allows(settings: Settings) -> None:
    [start] = unit("keel@.service")["ExecStart"]
    [processes] = [each for each in unit("keel@.service")["Environment"] if each.startswith("KEEL_PROCESSES=")]

    assert "--workers ${KEEL_PROCESSES}" in start
    assert Load(processes=2 * int(processes.partition("=")[2]), workers=1).connections(settings) <= 97


def test_nginx_goes_to_the_sockets_of_the_two_groups() -> None:
    [start] = unit("keel@.service")["ExecStart"]
    socket = re.findall(r"--socket (\S+)", start)[0]

    assert re.findall(r"server unix:(\S+) ", NGINX) == [socket.replace("%i", group) for group in ("a", "b")]
    assert socket.startswith(f"/run/{unit('keel@.service')['RuntimeDirectory'][0]}/")


def test_nginx_closes_idle_connections_before_a_group_that_stops_does() -> None:
    [start] = unit("keel@.service")["ExecStart"]
    [drain] = re.findall(r"--drain (\d+)", start)
    upstream = NGINX.partition("upstream keel {")[2].partition("}")[0]

    assert int(re.findall(r"keepalive_timeout (\d+)s;", upstream)[0]) < int(drain)


def test_nginx_lets_every_upload_through_that_keel_takes(settings: Settings) -> None:
    [megabytes] = re.findall(r"client_max_body_size (\d+)m;", NGINX)

    assert int(megabytes) * 1024 * 1024 > settings.max_upload_size
