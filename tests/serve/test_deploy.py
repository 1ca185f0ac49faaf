"""What operators are given as files: names that the gateway really exports, keys that it really reads, paths that are there."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.serve.running import running

DEPLOY = Path(__file__).parents[2] / "deploy"
COMMAND = (DEPLOY.parent / "alloc_jax" / "serve" / "__main__.py").read_text()


@pytest.fixture(scope="module")
def exported(policy):
    """The names of all series."""
    with running(policy) as gateway:
        metrics = gateway.gateway.metrics
        metrics.text()
        found = list(metrics.registry.collect())
    names = set()
    for metric in found:
        more = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(metric.type, [""])
        names |= {metric.name + end for end in more}
    return names


def asked(text):
    return set(re.findall(r"\balloc_[a-z_]+", text))


def test_the_board_shows_what_is_exported(exported):
    board = json.loads((DEPLOY / "grafana.json").read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    shown += [variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    assert set().union(*map(asked, shown)) <= exported
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) >= 10
    places = [panel["gridPos"] for panel in board["panels"]]
    assert len({(place["x"], place["y"]) for place in places}) == len(places)


def test_the_alerts_watch_what_is_exported(exported):
    yaml = pytest.importorskip("yaml")
    rules = [rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    for rule in rules:
        assert asked(rule["expr"]) <= exported and rule["expr"].count("(") == rule["expr"].count(")"), rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 8


def test_the_container_is_made_of_files_that_are_there():
    lines = re.sub(r"\\\n\s*", "", (DEPLOY / "Containerfile").read_text()).splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    assert copied and all((DEPLOY.parent / name).exists() for names in copied for name in names)
    words = {line.split()[0] for line in lines if line and not line.startswith("#")}
    assert {"USER", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT"} <= words
    for line in lines:  # in the form of a list, so that signals reach the process
        if line.startswith(("ENTRYPOINT", "CMD")):
            assert json.loads(line.split(maxsplit=1)[1])


def test_the_container_is_healthy_where_the_gateway_is_up_though_its_upstream_is_down(policy):
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Containerfile").read_text())
    name, *arguments = json.loads(re.search(r"^HEALTHCHECK .*? CMD (\[.*\])$", text, re.MULTILINE)[1])
    assert name == "python" and re.search(r'DEFINE_integer\("port", 8321,', COMMAND) and "EXPOSE 8321" in text
    with running(policy, url="http://127.0.0.1:9/v1") as gateway:
        there = [part.replace("127.0.0.1:8321", gateway.url.split("/")[2]) for part in arguments]
        assert there != arguments and subprocess.run([sys.executable, *there]).returncode == 0
    assert subprocess.run([sys.executable, *there], stderr=subprocess.DEVNULL).returncode == 1


def test_the_containers_configuration_holds_keys_that_are_flags():
    said = tomllib.loads((DEPLOY / "serve.toml").read_text())
    for name in said.keys() - {"sources"}:
        assert re.search(rf'flags\.DEFINE_\w+\(\s*"{name}"', COMMAND), name
