"""Parts by their names: registration, plugins, and what is said where they do not work."""

import subprocess
import sys

import pytest

import seaanchor as sa
from seaanchor import registry
from seaanchor.errors import SeaAnchorError


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_registered", {part: dict(known) for part, known in registry._registered.items()})
    monkeypatch.setattr(registry, "_plugins", {})


def plugin(folder, name: str, part: str = "objective", kind: str = "mine", body: str = "") -> str:
    file = folder / f"{name}.py"
    file.write_text(f'{body}\nimport seaanchor as sa\n@sa.register("{part}", "{kind}")\nclass Mine:\n    pass\n')
    return str(file)


@pytest.mark.parametrize("part", registry.BUILT_IN)
def test_every_built_in_name_leads_to_a_part_of_that_name(part):
    assert set(registry.names(part)) >= set(registry.BUILT_IN[part])
    for name in registry.BUILT_IN[part]:
        assert callable(registry.lookup(part, name)) and registry.is_built_in(part, name)
        if isinstance(registry.lookup(part, name), type):
            assert registry.name_of(part, registry.lookup(part, name)) == name


def test_a_registered_part_is_found_by_its_name():
    @sa.register("objective", "mine")
    class Mine:
        pass

    assert registry.lookup("objective", "mine") is Mine and "mine" in registry.names("objective")
    assert registry.name_of("objective", Mine) == "mine" and not registry.is_built_in("objective", "mine")
    sa.register("objective", "mine")(Mine)  # a cell that is run again


def test_parameters_are_settings():
    @sa.register("anchor", "mine")
    def mine(strength: float, *, power: int = 2):
        return strength, power

    assert list(registry.parameters("anchor", "mine")) == ["strength", "power"]
    assert registry.hints("anchor", "mine") == {"strength": float, "power": int}
    assert list(registry.parameters("perturbation", "typographic+apgd"))[:3] == ["class_names", "words", "fonts"]
    assert "epsilon" in registry.parameters("perturbation", "typographic+apgd")


@pytest.mark.parametrize(
    ("part", "name", "factory", "words"),
    [
        ("objektive", "mine", int, ["a part 'objektive'", "did you mean objective?"]),
        ("objective", "my loss", int, ["the name 'my loss'", "letters"]),
        ("perturbation", "mine+yours", int, ["the name 'mine+yours'"]),
        ("objective", "tecoa", int, ["the name 'tecoa' is taken", "seaanchor.objectives.supervised:TeCoA"]),
        ("objective", "mine", 3, ["objective mine is 3", "a class"]),
    ],
)
def test_what_cannot_be_registered(part, name, factory, words):
    with pytest.raises(SeaAnchorError) as error:
        sa.register(part, name)(factory)
    for word in words:
        assert word in str(error.value)


def test_a_name_that_nobody_registered():
    with pytest.raises(SeaAnchorError, match=r"objective\.kind is 'tekoa'[\s\S]*did you mean tecoa\?"):
        registry.lookup("objective", "tekoa")
    with pytest.raises(SeaAnchorError, match=r"perturbation\.kind is 'typographic\+pgt'"):
        registry.check_kind("perturbation", "typographic+pgt")
    with pytest.raises(SeaAnchorError, match=r"given as an object[\s\S]*register"):
        registry.lookup("objective", "object:my_module.Mine")


def test_a_plugin_is_a_file_or_a_module_of_the_working_directory(tmp_path, monkeypatch):
    path = plugin(tmp_path, "a_file")
    monkeypatch.chdir(tmp_path)
    assert registry.load_plugin("a_file.py") == registry.load_plugin(path) == path  # once, and found from anywhere
    plugin(tmp_path, "a_module_of_mine", kind="other")
    assert registry.load_plugin("a_module_of_mine") == "a_module_of_mine"
    assert {"mine", "other"} <= set(registry.names("objective"))


def test_a_file_that_was_imported_by_its_name_is_not_imported_again(tmp_path, monkeypatch):
    path = plugin(tmp_path, "imported_before")
    monkeypatch.syspath_prepend(tmp_path)
    registry.load_plugin("imported_before")
    registry.load_plugin(path)
    assert registry.lookup("objective", "mine").__module__ == "imported_before"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import no_such_package", ["ModuleNotFoundError", "no_such_package"]),
        ("def broken(:", ["SyntaxError"]),
        ("1 / 0", ["ZeroDivisionError"]),
    ],
)
def test_a_plugin_that_does_not_import_is_one_error(tmp_path, body, words):
    with pytest.raises(SeaAnchorError) as error:
        registry.load_plugin(plugin(tmp_path, "broken", body=body))
    for word in ["broken.py does not import", *words]:
        assert word in str(error.value)
    assert "mine" not in registry.names("objective")


def test_a_plugin_that_is_not_there():
    for name in ("nowhere.py", "no_such_module_here"):
        with pytest.raises(SeaAnchorError, match="does not import"):
            registry.load_plugin(name)


def test_a_plugin_that_registers_a_taken_name_registers_nothing(tmp_path):
    first = '@sa.register("anchor", "free")\nclass Free:\n    pass'
    path = plugin(tmp_path, "taken", kind="dpo", body=f"import seaanchor as sa\n{first}")
    with pytest.raises(SeaAnchorError, match=r"taken\.py: the name 'dpo' is taken[\s\S]*rename yours"):
        registry.load_plugin(path)
    assert "free" not in registry.names("anchor")


def test_names_cost_no_torch():
    code = (
        "import sys, seaanchor\nseaanchor.register('objective', 'mine')(int)\n"
        "from seaanchor.registry import names\nassert 'mine' in names('objective')\nprint('torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "False"


def test_a_plugin_file_that_is_not_there_is_answered_by_one_like_it(tmp_path):
    plugin(tmp_path, "my_loss")
    with pytest.raises(SeaAnchorError, match=rf"there is no file[\s\S]*did you mean {tmp_path}/my_loss\.py\?"):
        registry.load_plugin(str(tmp_path / "my_los.py"))
