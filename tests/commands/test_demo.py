"""`alloc demo`: a model, a gateway and an account from one command."""

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from alloc_jax.commands.servers import demo
from alloc_jax.commands.servers.demo import DemoAnswer
from alloc_jax.jobs.servers import started


def test_the_account_adds_up(monkeypatch):
    monkeypatch.setattr(demo, "FLAGS", SimpleNamespace(budget=2.0))
    answers = [DemoAnswer("4", "vote(m,4)", 4), DemoAnswer("5", "vote(m,1)", 1), DemoAnswer("6", "vote(m,1)", 1)]
    said = demo._account(answers, [True, False, True], 2.0, (0.02, 0.01), 1.5)
    assert "2.000 samples per question of 2, 6 in all" in said and "67 %, known to 58 points" in said
    assert re.search(r"vote\(m,1\) \| +2 \| +50 %", said) and re.search(r"vote\(m,4\) \| +1 \| +100 %", said)


def test_a_server_that_does_not_come_up_says_why(tmp_path, capfd):
    options = [f"--policy={tmp_path}", "--upstream=http://127.0.0.1:9/v1", "--budget=3", "--resource=samples"]
    with (
        pytest.raises(ValueError, match=r"alloc serve is not up: .*policy\.json is missing"),
        started("serve", *options),
    ):
        pass
    assert capfd.readouterr().out.startswith(f"alloc serve --policy={tmp_path} ")


@pytest.mark.long
def test_one_command_asks_a_model_through_the_gateway_and_keeps_the_budget():
    command = [sys.executable, "-m", "alloc_jax", "demo", "--questions=60", "--budget=2"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    (spent,) = re.findall(r"spent +(\S+) samples per question of 2", said.stdout)
    assert 1 <= float(spent) < 2.6
    counts = [int(count) for count in re.findall(r"vote\(large/think,\d\) \| +(\d+) ", said.stdout)]
    assert sum(counts) == 60 and len(counts) > 1
