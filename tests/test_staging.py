import pytest

from sparsify.errors import InputError
from sparsify.staging import staging


def test_what_is_not_committed_is_gone(tmp_path):
    target = tmp_path / "a.pt2"
    with staging([target], staged=True) as stage, stage.writing(target) as place:
        assert place.name == "a.pt2"
        assert place.parent.parent == tmp_path
        place.write_text("new")
    assert list(tmp_path.iterdir()) == []


def test_what_is_committed_takes_its_place_with_the_permissions_of_what_was_there(tmp_path):
    (tmp_path / "sub").mkdir()
    one, two = tmp_path / "a.pt2", tmp_path / "sub" / "a.pt2"
    one.write_text("old")
    one.chmod(0o600)
    with staging([one, two, one], staged=True) as stage:
        for target in (one, two, one):
            with stage.writing(target) as place:
                place.write_text(f"new {target.parent.name}")
        assert (one.read_text(), two.exists()) == ("old", False)
        stage.commit()
    assert (one.read_text(), two.read_text()) == (f"new {tmp_path.name}", "new sub")
    assert one.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.pt2", "a.pt2", "sub"]


@pytest.mark.parametrize("held", [None, [], ["old"]])
def test_a_folder_takes_the_place_of_one_that_was_there(tmp_path, held):
    target = tmp_path / "m.mlpackage"
    if held is not None:
        target.mkdir()
        for name in held:
            (target / name).touch()
    with staging([target], staged=True) as stage:
        stage.place(target).mkdir()
        (stage.place(target) / "new").touch()
        stage.commit()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["m.mlpackage", "m.mlpackage/new"]


def test_without_staging_a_target_is_its_own_place(tmp_path):
    target = tmp_path / "a.pt2"
    with staging([target], staged=False) as stage, stage.writing(target) as place:
        assert place == target
        stage.commit()


def test_errors_name_the_target(tmp_path):
    target = tmp_path / "a.pt2"
    with staging([target], staged=True) as stage:
        with pytest.raises(InputError, match=f"^{target} is too large"), stage.writing(target) as place:
            raise InputError(f"{place} is too large.")
        with pytest.raises(InputError, match=r"^The disk is full"), stage.writing(target):
            raise InputError("The disk is full.")
        stage.place(target).write_text("new")
        (target / "folder").mkdir(parents=True)  # made by somebody else in the meantime
        with pytest.raises(InputError, match=f"^{target} cannot be written: Is a directory"):
            stage.commit()
    with (
        pytest.raises(InputError, match="cannot be written: No such file"),
        staging([tmp_path / "b" / "c"], staged=True),
    ):
        pass
