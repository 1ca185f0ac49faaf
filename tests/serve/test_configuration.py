"""One file says what flags say, and every mistake in it has a place."""

import pytest
from absl import flags

from alloc_jax.price_book import PriceBook
from alloc_jax.serve.start.configuration import prices_of, read_configuration
from tests.fake_server import fake_server
from tests.serve.test_command import failed, folder, free_port, start, up  # noqa: F401

GOOD = """
upstream = "http://127.0.0.1:9/v1"
budget = 3
hard = true
share = 0.5
attempts = 2
exhausted = "refuse"
models = ["m", "n"]

[sources.m]
model = "m"

[[prices]]
model = "m"
input = 1
output = 2.5
source = "a page"
date = 2025-01-01
"""


def read(path, text, *arguments):
    """The flags, and the tables, after a file was read."""
    own = flags.FlagValues()
    more = {"flag_values": own, "module_name": "serve"}
    for name in ("config", "upstream", "budget", "tenants", "sources", "prices"):
        flags.DEFINE_string(name, None, f"About {name}.", **more)
    flags.DEFINE_bool("hard", False, "About hard.", **more)
    flags.DEFINE_float("share", 0.9, "About shares.", 0.0, 1.0, **more)
    flags.DEFINE_integer("attempts", 3, "About attempts.", 1, **more)
    flags.DEFINE_enum("exhausted", "cheapest", ["cheapest", "refuse"], "About the end.", **more)
    flags.DEFINE_list("models", None, "About models.", **more)
    own(["serve", *arguments])
    (path / "serve.toml").write_text(text)
    return own, read_configuration(path / "serve.toml", own, "serve")


def test_a_file_says_what_flags_say_and_a_flag_goes_before_it(tmp_path):
    own, tables = read(tmp_path, GOOD, "--attempts=7")
    said = own.flag_values_dict()
    assert said["attempts"] == 7 and said["hard"] is True and said["budget"] == "3" and said["share"] == 0.5
    assert said["models"] == ["m", "n"] and said["exhausted"] == "refuse" and own["hard"].present
    assert tables["sources"] == {"m": {"model": "m"}}
    price = PriceBook.of(prices_of("serve.toml", tables["prices"])).price("m")
    assert (price.output, price.date, price.cached_input) == (2.5, "2025-01-01", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("attempts = 0", "attempts: expected a positive integer, got 0 (About attempts.)"),
        ("attempts = 2.5", "attempts: expected a positive integer, got 2.5"),
        ("attempts = true", "attempts: expected a positive integer, got True"),
        ("share = 1.5", "share: expected a number in the range [0.0, 1.0], got 1.5"),
        ("share = nan", "share: expected a number in the range [0.0, 1.0], got nan"),
        ("hard = 1", "hard: expected true or false, got 1"),
        ('exhausted = "never"', "exhausted: expected one of cheapest, refuse, got 'never'"),
        ('models = "m"', "models: expected a list of texts, got 'm'"),
        ("models = [1]", "models: expected a list of texts, got [1]"),
        ("upstream = 3", "upstream: expected a text, got 3"),
        ("budget = [3]", "budget: expected a text or a number, got [3]"),
        ("bugdet = 3", "bugdet: there is no such key; budget is meant?"),
        ('config = "other.toml"', "config: there is no such key"),
        ("sources = 3", "sources: expected a table, as in [sources.NAME], got 3"),
        ("[prices]\nm = 1", "prices: expected an array of tables, as in [[prices]], got {'m': 1}"),
        ("hard = true\nhard = false", "no TOML: Cannot overwrite a value"),
    ],
)
def test_every_mistake_is_told_with_file_key_and_what_was_wanted(tmp_path, text, said):
    with pytest.raises(ValueError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'serve.toml'}: {said}"), error.value


def test_a_table_and_a_flag_do_not_say_the_same(tmp_path):
    with pytest.raises(ValueError, match="sources: --sources says it, too"):
        read(tmp_path, GOOD, "--sources=x.json")


def test_the_gateway_starts_from_one_file(folder, tmp_path):  # noqa: F811
    path = tmp_path / "serve.toml"

    def told(text):
        path.write_text(text)
        return failed(folder, f"--config={path}", environment={"KEY_A": "a"})

    usual = 'upstream = "http://127.0.0.1:9/v1"\nledger = ""\n'
    assert "say --resource, or resource in the file of --config" in told(usual)
    usual += 'resource = "samples"\n'
    assert f"{path}: tenants: tenant 'a': no budget" in told(usual + '[tenants.a]\nkey_env = "KEY_A"')
    assert f"{path}: tenants: tenant 'a': hard is true or false, got 'yes'" in told(
        usual + '[tenants.a]\nkey_env = "KEY_A"\nbudget = 3\nhard = "yes"'
    )
    assert f"{path}: sources: source 'm': temperature is at least 0, got -1" in told(
        usual + 'budget = 3\n[sources.m]\nmodel = "m"\ntemperature = -1'
    )
    assert f"{path}: prices: entry 0 (model 'm'): no output" in told(
        usual + 'budget = 3\n[[prices]]\nmodel = "m"\ninput = 1\nsource = "x"\ndate = 2025-01-01'
    )
    with fake_server() as fake:
        port = free_port()
        path.write_text(
            f'upstream = "{fake.url}"\nledger = ""\nresource = "samples"\nport = 1\n'
            '[tenants.a]\nkey_env = "KEY_A"\nbudget = "none"\n[tenants.b]\nkey_env = "KEY_B"\nbudget = 2\n'
        )
        keys = {"KEY_A": "a", "KEY_B": "b"}
        with up(start(folder, f"--config={path}", f"--port={port}", environment=keys), port) as said:
            assert "a: no budget" in said[0] and "b: 2 samples per question" in said[1]
