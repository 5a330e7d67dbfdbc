"""The user's own network is found by its import path, or the message says why not."""

import hashlib
import sys
from pathlib import Path

import pytest
import torch

from assay.data.base import Form
from assay.errors import SpecError, UserError
from assay.models.imported import Imported
from assay.registry import build
from tests.mistakes import refused

NETWORKS = """
import torch

class Holder:
    net = torch.nn.Linear

def net(outputs=2):
    return torch.nn.Linear(3, outputs)

def failing():
    raise ZeroDivisionError("in the factory")

def ending():
    raise SystemExit

def estimator():
    from sklearn.linear_model import LogisticRegression
    return LogisticRegression().fit([[0.0, 0, 0], [1, 1, 1]], [0, 1])

def single():
    return torch.nn.Linear(3, 1)

def number():
    return 3

def pretrained():
    made = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    with torch.no_grad():
        made[0].weight.copy_(torch.arange(6.0).view(2, 3))
    return made

def of_a_file(settings):
    return torch.nn.Linear(3, 2)

def restless():
    made = torch.nn.Linear(3, 2)
    with torch.no_grad():
        made.weight.copy_(torch.rand(2, 3, generator=torch.Generator().manual_seed(restless.calls)))
    restless.calls += 1
    return made

restless.calls = 0

constant = 3
"""


@pytest.fixture(autouse=True)
def _networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_networks.py").write_text(NETWORKS)
    (tmp_path / "broken_networks.py").write_text("import a_module_that_is_nowhere")
    (tmp_path / "raising_networks.py").write_text("1 / 0")
    (tmp_path / "unreadable_networks.py").write_text("def net(")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)


def test_a_file_among_the_arguments_names_the_network_too(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    asked = Imported(factory="own_networks:of_a_file", arguments={"settings": {"file": str(file)}})
    before, without = asked.fingerprint(), Imported(factory="own_networks:net").fingerprint()
    file.write_bytes(b"another")
    assert len({before, without, asked.fingerprint()}) == 3


def test_a_factory_in_the_current_folder_is_found() -> None:
    network = Imported(factory="own_networks:net", arguments={"outputs": 4}).build((3,), 2, seed=0)
    assert network(torch.zeros(2, 3)).shape == (2, 4)


def test_a_factory_may_be_an_attribute_of_a_class() -> None:
    made = Imported(factory="own_networks:Holder.net", arguments={"in_features": 3, "out_features": 2})
    assert isinstance(made.build((3,), 2, seed=0), torch.nn.Linear)


def test_first_weights_depend_on_the_seed_alone() -> None:
    one, again, other = (Imported(factory="own_networks:net").build((3,), 2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.weight, again.weight)  # type: ignore[arg-type]
    assert not torch.equal(one.weight, other.weight)  # type: ignore[arg-type]


FORM = Form(shape=(3,), classes=2)


def test_weights_that_the_seed_draws_come_from_nowhere_else() -> None:
    assert Imported(factory="own_networks:net").given_weights(FORM) is None


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("factory", ["pretrained", "restless"])
def test_weights_that_the_seed_does_not_draw_are_told(factory: str, public: bool) -> None:
    """The same under every seed, or another each time: both are more than the seed says."""
    given = Imported(factory=f"own_networks:{factory}", public_weights=public).given_weights(FORM)
    assert given is not None
    assert f"own_networks:{factory}" in given.source and "weight" in given.source
    assert given.public == public


def test_a_file_among_the_arguments_is_named_with_its_hash() -> None:
    Path("first.bin").write_bytes(b"weights")
    given = Imported(factory="own_networks:of_a_file", arguments={"settings": {"from": ["x" * 999, "first.bin"]}})
    found = given.given_weights(FORM)
    assert found is not None
    assert found.source == f"first.bin (SHA-256 {hashlib.sha256(b'weights').hexdigest()})"


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("nowhere_at_all:net", "No module named 'nowhere_at_all'"),
        ("raising_networks:net", "ZeroDivisionError"),
        ("unreadable_networks:net", "SyntaxError"),
        ("own_networks:absent", "no attribute 'absent'"),
        ("broken_networks:net", "a_module_that_is_nowhere"),
        (".own_networks:net", "give package.module:factory"),
    ],
)
def test_a_factory_that_cannot_be_imported_says_why(factory: str, said: str) -> None:
    with pytest.raises(UserError, match=r"cannot be imported: .*give package\.module:factory") as caught:
        Imported(factory=factory).build((3,), 2, seed=0)
    assert said in str(caught.value)


def test_a_factory_that_raises_is_named_with_what_it_raised() -> None:
    with pytest.raises(UserError) as caught:
        Imported(factory="own_networks:failing").build((3,), 2, seed=0)
    assert (caught.value.setting, caught.value.given) == ("model", "own_networks:failing")
    assert "ZeroDivisionError: in the factory" in str(caught.value)


def test_a_factory_or_a_module_that_ends_the_program_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "script_networks.py").write_text("import sys\nsys.exit(0)\n")
    for factory in ("own_networks:ending", "script_networks:net"):
        with refused(UserError, "model", factory):
            Imported(factory=factory).build((3,), 2, seed=0)


def test_a_factory_may_return_an_estimator_or_one_logit() -> None:
    for factory in ("estimator", "single"):
        network = Imported(factory=f"own_networks:{factory}").build((3,), 2, seed=0)
        assert network(torch.zeros(2, 3)).shape == (2, 2)


def test_a_factory_must_return_a_module() -> None:
    with refused(UserError, "model", "int"):
        Imported(factory="own_networks:number").build((3,), 2, seed=0)


def test_a_factory_must_be_callable() -> None:
    with refused(UserError, "model", "own_networks:constant"):
        Imported(factory="own_networks:constant").build((3,), 2, seed=0)


@pytest.mark.parametrize("factory", ["own_networks", "own_networks.net", "own networks:net", "a:b:c", "os:system('x')"])
def test_what_is_no_import_path_is_refused(factory: str) -> None:
    with refused(SpecError, "factory"):
        build("model", {"name": "imported", "factory": factory})
