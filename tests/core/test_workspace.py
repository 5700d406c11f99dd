import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from habitue.collect import synthetic
from habitue.core.errors import LakeError, SettingsError, UsageError
from habitue.core.schemas import EVENTS
from habitue.core.workspace import PLAN, VERSION, Config, init, is_currency, open_workspace, set_layout


@contextmanager
def without_rights(folder: Path):
    """Take away the right to write in `folder`; root, who may do everything, becomes nobody for the while."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def public():
    """A folder that any user may look into, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_init_makes_the_layout_and_opens_it(tmp_path):
    made = init(tmp_path / "a" / "shop", buckets=3, currency="GBP")
    assert (made.lake.buckets, made.currency, made.lake.root) == (3, "GBP", tmp_path / "a/shop/lake")
    assert {path.name for path in made.root.iterdir()} == {PLAN, "lake", "vectors", "models", "reports", "state"}
    assert open_workspace(made.root) == made
    assert made.plan.is_file() and not made.identities.exists()
    assert all(folder.is_dir() for folder in (made.vectors, made.models, made.reports))


def test_files_that_are_there_stay(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "mine.html").write_text("x")
    init(tmp_path, buckets=1)
    assert (tmp_path / "reports" / "mine.html").read_text() == "x"


def test_a_workspace_is_not_made_twice(tmp_path):
    init(tmp_path, buckets=3)
    with pytest.raises(UsageError, match="this is a workspace already.*choose another folder"):
        init(tmp_path)
    assert open_workspace(tmp_path).lake.buckets == 3


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "shop").touch()
    with pytest.raises(UsageError, match="a file is in the way"):
        init(tmp_path / "shop")


@pytest.mark.parametrize("content", [None, "file"])
def test_what_is_no_workspace(tmp_path, content):
    if content:
        (tmp_path / "notes.txt").write_text(content)
    with pytest.raises(UsageError, match=r"no habitue\.toml, so this is not a workspace.*habitue init"):
        open_workspace(tmp_path)


def test_a_workspace_of_another_habitue(tmp_path):
    init(tmp_path)
    plan = (tmp_path / PLAN).read_text()
    (tmp_path / PLAN).write_text(plan.replace(f"schema_version = {VERSION}", "schema_version = 99\nwarp = true"))
    for older in (False, True):
        with pytest.raises(LakeError, match=f"layout 99; this Habitue knows up to {VERSION}.*Install"):
            open_workspace(tmp_path, older=older)
    (tmp_path / PLAN).write_text(plan.replace(f"schema_version = {VERSION}", "schema_version = 1"))
    with pytest.raises(LakeError, match=f"layout 1; this Habitue works on layout {VERSION}.*copy.*habitue migrate"):
        open_workspace(tmp_path)
    assert open_workspace(tmp_path, older=True).lake.buckets == 8


def test_setting_the_layout_leaves_the_rest_of_the_plan(tmp_path):
    init(tmp_path)
    plan = tmp_path / PLAN
    text = plan.read_text() + "\n# schema_version = 1 is what it was\n"
    plan.write_text(text.replace(f"schema_version = {VERSION} ", "schema_version=1 "))
    assert set_layout(plan) and plan.read_text() == text.replace(
        f"schema_version = {VERSION} ", f"schema_version={VERSION} "
    )
    assert not set_layout(plan)


def test_a_plan_that_cannot_be_written(public):
    init(public / "shop")
    plan = public / "shop" / PLAN
    plan.write_text(plan.read_text().replace(f"schema_version = {VERSION}", "schema_version = 1"))
    with without_rights(public / "shop"), pytest.raises(LakeError, match="cannot be written.*keeps its older layout"):
        set_layout(plan)
    assert "schema_version = 1" in plan.read_text()


def test_an_unknown_setting(tmp_path):
    init(tmp_path)
    plan = (tmp_path / PLAN).read_text().replace("buckets", "bucket")
    (tmp_path / PLAN).write_text(plan)
    with pytest.raises(SettingsError, match=r"habitue\.toml \[workspace\]: there is no setting 'bucket'.*'buckets'"):
        open_workspace(tmp_path)


def test_a_plan_without_the_section_has_the_defaults(tmp_path):
    (tmp_path / PLAN).write_text("seed = 1\n")
    opened = open_workspace(tmp_path)
    assert (opened.lake.buckets, opened.currency) == (8, "EUR") == (Config().buckets, Config().currency)
    assert init(tmp_path / "another").lake.buckets == 8


def test_settings_that_cannot_be_are_refused_when_opened(tmp_path):
    (tmp_path / PLAN).write_text("[workspace]\nbuckets = 0\n")
    with pytest.raises(SettingsError, match="0 buckets"):
        open_workspace(tmp_path)


@pytest.mark.parametrize("section", ["3", '"EUR"', "[1]", "1e400"])
def test_a_section_that_is_none_is_refused_when_opened(tmp_path, section):
    (tmp_path / PLAN).write_text(f"workspace = {section}\n")
    with pytest.raises(SettingsError, match=r"\[workspace\]: .* is not a table of settings"):
        open_workspace(tmp_path)


@pytest.mark.parametrize("buckets", [0, -1])
def test_buckets_below_one(tmp_path, buckets):
    with pytest.raises(SettingsError, match=rf"{buckets} buckets.*A user must lie in one"):
        init(tmp_path, buckets=buckets)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("currency", ["eur", "EURO", "€€€", "E1R", ""])
def test_a_currency_that_is_none(tmp_path, currency):
    assert not is_currency(currency)
    with pytest.raises(SettingsError, match="is no currency code.*three capital letters"):
        init(tmp_path, currency=currency)


def test_a_folder_that_cannot_be_written(public):
    with without_rights(public), pytest.raises(LakeError, match="the folder cannot be written.*you may write to"):
        init(public / "shop")
    assert list(public.iterdir()) == []


def test_a_read_only_workspace_can_be_read_and_says_so_when_written(public):
    shop = init(public / "shop")
    events = synthetic.shop(users=4, days=30)
    shop.lake.append(EVENTS, events)
    (shop.lake.root / ".lock").unlink()
    with without_rights(shop.lake.root):
        assert open_workspace(shop.root).lake.read(EVENTS).height == events.height
        with pytest.raises(LakeError, match="the folder cannot be written.*can still be read.*right to write"):
            shop.lake.append(EVENTS, events)
    assert shop.lake.read(EVENTS).height == events.height
