"""The user's own file: what it may hold, and one clear message for each way in which it cannot be used."""

import gc
import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.data.arrays import Arrays
from assay.data.base import Dataset
from assay.errors import DataError
from tests.mistakes import refused

X = np.arange(24, dtype=np.float64).reshape(8, 3)
Y = np.array([0, 1] * 4)


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., str]:
    """Writes arrays to a ``.npz`` file and returns its path."""

    def write(**arrays: Any) -> str:
        np.savez(tmp_path / "data.npz", **arrays)
        return str(tmp_path / "data.npz")

    return write


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[..., str]:
    """Writes columns to a ``.parquet`` file and returns its path."""

    def write(columns: dict[str, Any], name: str = "data.parquet") -> str:
        pd.DataFrame(columns).to_parquet(tmp_path / name)
        return str(tmp_path / name)

    return write


def refusal(path: str, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        Arrays(path=path, **settings).load()
    return str(caught.value)


def changed(array: np.ndarray, value: Any) -> np.ndarray:
    """The array with another value in its sixth place."""
    other = array.astype(np.result_type(array, np.asarray(value)))
    other.flat[5] = value
    return other


def test_an_npz_file_is_read(npz: Callable[..., str]) -> None:
    path = npz(x=X, y=Y, groups=np.arange(8) // 2, feature_names=["a", "b", "c"], class_names=["well", "ill"])
    data = Arrays(path=path, low=0, high=23, epsilons=(0, 1)).load()
    assert np.array_equal(data.x, X.astype(np.float32))
    assert np.array_equal(data.y, Y)
    assert data.groups is not None
    assert data.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (data.name, data.feature_names, data.class_names) == ("data", ("a", "b", "c"), ("well", "ill"))
    assert (data.low.tolist(), data.high.tolist(), data.epsilons) == ([0] * 3, [23] * 3, (0, 1))
    assert data.warnings == ()


def test_a_parquet_file_with_feature_columns_is_read(parquet: Callable[..., str]) -> None:
    path = parquet({"age": X[:, 0], "y": Y, "sex": Y == 1, "groups": list("aabbccdd")})
    data = Arrays(path=path).load()
    assert data.feature_names == ("age", "sex")
    assert np.array_equal(data.x, np.stack([X[:, 0], Y], 1).astype(np.float32))
    assert data.groups is not None
    assert data.groups.tolist() == list("aabbccdd")


def test_a_parquet_file_with_a_list_column_is_read(parquet: Callable[..., str]) -> None:
    data = Arrays(path=parquet({"x": list(X), "y": Y.astype(float)})).load()
    assert np.array_equal(data.x, X.astype(np.float32))
    assert data.feature_names == ("feature 0", "feature 1", "feature 2")
    assert data.y.dtype == np.int64


def test_records_may_have_any_shape(npz: Callable[..., str]) -> None:
    data = Arrays(path=npz(x=np.arange(64, dtype=np.uint8).reshape(8, 2, 4), y=Y), low=0, high=255).load()
    assert data.shape == (2, 4)
    assert data.x.dtype == np.float32


def test_bounds_taken_from_the_data_carry_a_warning(npz: Callable[..., str]) -> None:
    data = Arrays(path=npz(x=X, y=Y)).load()
    assert (data.low.tolist(), data.high.tolist()) == ([0, 1, 2], [21, 22, 23])
    assert "bounds of a valid input were taken from the data" in data.warnings[0]


def test_a_constant_feature_has_room_to_move(npz: Callable[..., str]) -> None:
    x = X.copy()
    x[:, 1] = 7
    data = Arrays(path=npz(x=x, y=Y)).load()
    assert (data.low[1], data.high[1]) == (7, 8)


@pytest.mark.parametrize("public", [False, True])
def test_the_files_own_scaling_is_unpaid_unless_public(npz: Callable[..., str], public: bool) -> None:
    data = Arrays(path=npz(x=X, y=Y), low=0, high=23, public_preprocessing=public).load()
    assert data.unpaid_preprocessing is not public


@pytest.mark.parametrize("given", [{}, {"low": 0}, {"high": 23}])
def test_bounds_taken_from_the_data_are_unpaid(npz: Callable[..., str], given: dict[str, float]) -> None:
    data = Arrays(path=npz(x=X, y=Y), public_preprocessing=True, **given).load()
    assert data.unpaid_preprocessing
    assert "no ε can be claimed; give low and high" in data.warnings[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param({"y": Y}, "has no 'x' (it holds: y); give x (records, ...) and y", id="no x"),
        pytest.param({"x": X}, "has no 'y' (it holds: x); give x (records, ...) and y", id="no y"),
        pytest.param(
            {"x": changed(X, np.nan), "y": Y}, "1 of 8 records hold NaN or infinity, the first is record 1", id="NaN"
        ),
        pytest.param({"x": changed(X, -np.inf), "y": Y}, "1 of 8 records hold NaN or infinity", id="infinity"),
        pytest.param({"x": X, "y": Y[:5]}, "x holds 8 records but y has shape (5,)", id="too few labels"),
        pytest.param({"x": X, "y": Y[:, None]}, "y has shape (8, 1); give one label a record", id="labels in a column"),
        pytest.param({"x": X, "y": np.array(1)}, "y has shape ()", id="one label for all"),
        pytest.param(
            {"x": X, "y": np.ones(8, int)}, "every record has the label 1; classification needs", id="one class"
        ),
        pytest.param({"x": X, "y": Y + 0.5}, "labels must be integers", id="fractional labels"),
        pytest.param({"x": X, "y": changed(Y, np.nan)}, "labels must be integers", id="NaN label"),
        pytest.param({"x": X, "y": changed(Y, np.inf)}, "labels must be integers", id="infinite label"),
        pytest.param({"x": X, "y": np.where(Y, "ill", "well")}, "labels must be integers", id="labels in words"),
        pytest.param({"x": X, "y": Y - 1}, "labels run from -1 to 0", id="negative label"),
        pytest.param(
            {"x": X, "y": Y, "class_names": ["one"]},
            "labels run from 0 to 1, but there are 1 classes",
            id="too few names",
        ),
        pytest.param({"x": X.astype(str), "y": Y}, "it must be numeric", id="records in words"),
        pytest.param({"x": X[:, 0], "y": Y}, "x has shape (8,); it must be (records, ...)", id="flat records"),
        pytest.param({"x": np.array(1.0), "y": Y}, "x has shape (); it must be (records, ...)", id="one number"),
        pytest.param({"x": X[:0], "y": Y[:0]}, "with at least one record", id="no records"),
        pytest.param(
            {"x": X, "y": Y, "groups": Y[:5]}, "groups has shape (5,); give one a record, (8,)", id="groups too short"
        ),
        pytest.param({"x": X, "y": Y, "groups": X}, "groups has shape (8, 3); give one a record", id="groups too wide"),
    ],
)
def test_arrays_that_cannot_be_evaluated_are_refused(
    npz: Callable[..., str], arrays: dict[str, np.ndarray], message: str
) -> None:
    assert message in refusal(npz(**arrays))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param({"y": Y}, "has no 'x' (it holds: y)", id="no x"),
        pytest.param({"age": X[:, 0]}, "has no 'y' (it holds: age)", id="no y"),
        pytest.param({"x": [[1.0, 2.0]] * 7 + [[1.0]], "y": Y}, "is ragged: x has rows of [1, 2] values", id="ragged"),
        pytest.param({"x": [[1.0, 2.0]] * 7 + [None], "y": Y}, "data.parquet", id="missing row"),
        pytest.param({"x": [["a", "b"]] * 8, "y": Y}, "it must be numeric", id="lists of words"),
        pytest.param(
            {"age": X[:, 0], "ward": list("abcdefgh"), "y": Y},
            "column 'ward' is not numeric; encode or drop",
            id="words",
        ),
        pytest.param({"age": [1.0] * 7 + [None], "y": Y}, "1 of 8 records hold NaN", id="missing value"),
        pytest.param({"age": X[:, 0], "y": [0, 1] * 3 + [0, None]}, "labels must be integers", id="missing label"),
        pytest.param({"age": X[:, 0], "y": list("abababab")}, "labels must be integers", id="labels in words"),
        pytest.param({"x": [], "y": []}, "data.parquet", id="no records"),
    ],
)
def test_tables_that_cannot_be_evaluated_are_refused(
    parquet: Callable[..., str], columns: dict[str, Any], message: str
) -> None:
    assert message in refusal(parquet(columns))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"low": 0, "high": 10}, "holds values from 0 to 23, outside the bounds 0 to 10", id="too narrow"),
        pytest.param({"low": 30, "high": -1}, "lower bound must lie below its upper bound", id="reversed"),
        pytest.param({"low": 5}, "outside the bound", id="low above a record"),
        pytest.param({"high": 5}, "outside the bound", id="high below a record"),
        pytest.param({"high": -5}, "outside the bound", id="high below every record"),
    ],
)
def test_bounds_that_the_records_break_are_refused(
    npz: Callable[..., str], settings: dict[str, float], message: str
) -> None:
    assert message in refusal(npz(x=X, y=Y), **settings)


def test_a_file_that_does_not_exist_is_named() -> None:
    assert "'nowhere.npz' does not exist" in refusal("nowhere.npz")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal(str(tmp_path))


def test_a_wrong_suffix_lists_the_allowed_ones(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x,y")
    assert "ends in '.csv'; allowed: .npz, .parquet" in refusal(str(tmp_path / "data.csv"))


def test_an_unreadable_file_is_refused_and_closed(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """One collection of garbage for all: it takes the better part of a second among many tests."""
    for suffix in ("npz", "parquet"):
        for content in (b"", b"age,y\n1,0\n", b"PK\x03\x04 cut short"):
            path = tmp_path / f"data.{suffix}"
            path.write_bytes(content)
            assert "cannot be read as ." in refusal(str(path)).replace("Parquet", ".parquet"), (suffix, content)
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


CAUSES = {
    "empty": b"",
    "text": b"age,y\n1,0\n",
    "cut short": b"PK\x03\x04 and so on",
    "pickle": pickle.dumps([1, 2]),
    "Parquet": b"PAR1 and so on",
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "MATLAB": b"MATLAB 5.0 MAT-file",
    "gzip": b"\x1f\x8b\x08 and so on",
}


@pytest.mark.parametrize("cause", CAUSES)
def test_what_is_no_archive_is_told_to_be_what_it_is(tmp_path: Path, cause: str) -> None:
    (tmp_path / "data.npz").write_bytes(CAUSES[cause])
    told = refusal(str(tmp_path / "data.npz"))
    assert cause in told and "Python objects" not in told


def test_each_fault_within_an_archive_has_its_message(tmp_path: Path, npz: Callable[..., str]) -> None:
    whole = Path(npz(x=X, y=Y)).read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        x = archive.read("x.npy")

    def told(**members: bytes) -> str:
        with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
            for name, content in members.items():
                archive.writestr(name.replace("_npy", ".npy"), content)
        return refusal(str(tmp_path / "other.npz"))

    causes = {
        "is no array": told(x_npy=x, readme=b"see the wiki"),
        "is no array;": told(x_npy=b"no array at all"),
        "'x' is cut short": told(x_npy=x[:-8]),
        "'x' is cut short or damaged": told(x_npy=x[:9] + bytes(40)),
        "'x' holds Python objects": refusal(npz(x=np.array([{}] * 8), y=Y)),
    }
    for cause, message in causes.items():
        assert cause in message
    assert sum("Python objects" in message for message in causes.values()) == 1


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(200, 3)), y=np.arange(200) % 2)
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[1000:1100] = bytes(100)
    (tmp_path / "data.npz").write_bytes(content)
    assert "cannot be read as .npz" in refusal(str(tmp_path / "data.npz"))


def test_a_bare_array_under_the_name_of_an_archive_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "data.npz").open("wb") as file:
        np.save(file, X)
    assert "data.npz" in refusal(str(tmp_path / "data.npz"))


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_objects_are_never_unpickled(npz: Callable[..., str], tmp_path: Path) -> None:
    path = npz(x=np.array([Trap(tmp_path / "mark")] * 8, dtype=object), y=Y)
    assert "Assay unpickles nothing" in refusal(path)
    assert not (tmp_path / "mark").exists()


def test_a_bare_pickle_is_never_unpickled(tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(pickle.dumps(Trap(tmp_path / "mark")))
    refusal(str(tmp_path / "data.npz"))
    assert not (tmp_path / "mark").exists()


def test_ragged_rows_in_an_npz_are_refused(npz: Callable[..., str]) -> None:
    ragged = np.array([np.ones(2), np.ones(3)] * 4, dtype=object)
    assert "ragged rows" in refusal(npz(x=ragged, y=Y))


def test_equal_content_has_an_equal_digest_from_any_path(parquet: Callable[..., str]) -> None:
    columns = {"age": X[:, 0], "y": Y, "groups": [f"patient {i}" for i in range(8)]}
    one, other = (Arrays(path=parquet(columns, name)).load() for name in ("a.parquet", "b.parquet"))
    assert one.groups is not None
    assert one.groups.tolist() == other.groups.tolist()  # type: ignore[union-attr]
    assert one.digest == other.digest


@pytest.mark.parametrize("what", ["x", "y", "groups", "low"])
def test_different_content_has_a_different_digest(npz: Callable[..., str], what: str) -> None:
    def load(**given: Any) -> Dataset:
        settings = {"low": given.pop("low", -1.0), "high": 99.0}
        return Arrays(path=npz(**{"x": X, "y": Y, "groups": np.arange(8)} | given), **settings).load()

    other = {"x": X + 1, "y": 1 - Y, "groups": np.arange(8) // 2, "low": -2.0}
    assert load().digest != load(**{what: other[what]}).digest


RAW = np.arange(64.0).reshape(8, 1, 2, 4)


@pytest.mark.parametrize(
    ("modality", "x"),
    [pytest.param("signal", RAW[:, 0], id="signal"), pytest.param("image", RAW, id="image")],
)
def test_a_modality_is_read_and_its_channels_bounded(npz: Callable[..., str], modality: str, x: np.ndarray) -> None:
    data = Arrays(path=npz(x=x, y=Y), modality=modality).load()
    assert (data.modality, data.shape, data.feature_names) == (modality, x.shape[1:], ())
    assert np.array_equal(data.x, x.astype(np.float32))
    assert data.low.shape == (x.shape[1], *[1] * (x.ndim - 2))
    assert data.low.ravel().tolist() == x.min((0, *range(2, x.ndim))).tolist()
    assert data.high.ravel().tolist() == x.max((0, *range(2, x.ndim))).tolist()


@pytest.mark.parametrize(
    ("modality", "x", "message"),
    [
        pytest.param("signal", X, "shape (8, 3), but modality signal wants (records, channels, samples)", id="flat"),
        pytest.param("signal", RAW, "wants (records, channels, samples)", id="image as signal"),
        pytest.param("image", RAW[:, 0], "wants (records, channels, height, width)", id="no channels"),
        pytest.param("image", X, "wants (records, channels, height, width)", id="features as image"),
        pytest.param("signal", X[:, :, None], "last axis looks like channels", id="signal channels last"),
        pytest.param("image", np.zeros((8, 6, 6, 3)), "last axis looks like channels", id="image channels last"),
        pytest.param("image", np.zeros((8, 6, 6, 1)), "np.moveaxis(x, -1, 1)", id="grey channels last"),
    ],
)
def test_records_of_another_modality_are_refused(
    npz: Callable[..., str], modality: str, x: np.ndarray, message: str
) -> None:
    assert message in refusal(npz(x=x, y=Y), modality=modality)


PARTS = np.array(["train"] * 4 + ["validation"] * 2 + ["test"] * 2)


def test_a_split_of_the_file_is_official(npz: Callable[..., str]) -> None:
    data = Arrays(path=npz(x=X, y=Y, split=PARTS)).load()
    assert data.official is not None
    assert data.official.tolist() == PARTS.tolist()
    assert Arrays(path=npz(x=X, y=Y)).load().official is None


def test_a_split_column_of_a_table_is_official_and_no_feature(parquet: Callable[..., str]) -> None:
    data = Arrays(path=parquet({"age": X[:, 0], "y": Y, "split": PARTS})).load()
    assert data.official is not None
    assert data.official.tolist() == PARTS.tolist()
    assert data.feature_names == ("age",)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param({"split": PARTS[:4]}, "it has shape (4,)", id="too short"),
        pytest.param({"split": np.where(PARTS == "test", "held out", PARTS)}, "names ['held out']", id="unknown part"),
        pytest.param({"split": np.arange(8) // 4}, "names ['0', '1']", id="numbers"),
        pytest.param({"split": np.full(8, "train")}, "has no test records", id="no test"),
        pytest.param({"split": PARTS, "groups": np.arange(8) % 7}, "group '0' straddles", id="straddling group"),
    ],
)
def test_a_split_that_is_none_is_refused(npz: Callable[..., str], arrays: dict[str, Any], message: str) -> None:
    assert message in refusal(npz(x=X, y=Y, **arrays))


def test_a_feature_has_a_range_of_its_own(npz: Callable[..., str]) -> None:
    path = npz(x=X, y=Y, feature_names=["age", "dose", "rate"])
    data = Arrays(path=path, low=0, high=23, ranges={"dose": (-5, 40)}, public_preprocessing=True).load()
    assert (data.low.tolist(), data.high.tolist()) == ([0, -5, 0], [23, 40, 23])
    assert data.warnings == ()
    assert not data.unpaid_preprocessing


def test_ranges_of_all_features_leave_nothing_to_take_from_the_data(npz: Callable[..., str]) -> None:
    path = npz(x=X, y=Y)
    ranges = {f"feature {i}": (-1.0, 30.0 + i) for i in range(3)}
    data = Arrays(path=path, ranges=ranges, public_preprocessing=True).load()
    assert data.high.tolist() == [30, 31, 32]
    assert data.warnings == ()
    some = Arrays(path=path, ranges={"feature 0": (-1.0, 30.0)}, public_preprocessing=True).load()
    assert some.unpaid_preprocessing
    assert "taken from the data" in some.warnings[0]
    assert (some.low.tolist(), some.high.tolist()) == ([-1, 1, 2], [30, 22, 23])


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({"ages": (0, 30)}, "unknown feature 'ages'; allowed: age, dose, rate. Did you mean 'age'?"),
        ({"age": (0, 20)}, "ranges: age: .* holds values from 0 to 21, outside the bounds 0 to 20 that you gave"),
        ({"age": (30, 0)}, "ranges: age: low is 30 and high 0: every lower bound must lie below its upper bound"),
    ],
)
def test_a_range_that_cannot_be_is_refused(npz: Callable[..., str], ranges: Any, said: str) -> None:
    path = npz(x=X, y=Y, feature_names=["age", "dose", "rate"])
    assert re.search(said, refusal(path, low=0, high=23, ranges=ranges))


def test_features_that_nobody_can_change_are_fixed_in_the_bounds(npz: Callable[..., str]) -> None:
    plain = Arrays(path=npz(x=X, y=Y, feature_names=["age", "dose", "rate"]), low=0, high=23).load()
    data = plain.with_immutable(["age"])
    assert plain.bounds.fixed is None
    assert data.bounds.fixed is not None
    assert data.bounds.fixed.tolist() == [True, False, False]
    assert data.digest != plain.digest


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["sex"], "unknown feature 'sex'; allowed: age, dose, rate"),
        (["age", "dose", "rate"], "every feature is immutable, so there is nothing to attack"),
    ],
)
def test_immutable_features_that_cannot_be_are_refused(npz: Callable[..., str], names: list[str], said: str) -> None:
    data = Arrays(path=npz(x=X, y=Y, feature_names=["age", "dose", "rate"]), low=0, high=23).load()
    with pytest.raises(DataError, match=said):
        data.with_immutable(names)


def test_pixels_have_no_names_to_be_immutable_by(npz: Callable[..., str]) -> None:
    images = Arrays(path=npz(x=X.reshape(2, 1, 3, 4), y=Y[:2]), modality="image", low=0, high=23).load()
    with pytest.raises(DataError, match="its inputs have no names, so none can be immutable"):
        images.with_immutable(["age"])


def test_numbers_beyond_32_bits_are_refused(npz: Callable[..., str]) -> None:
    with refused(DataError, "x", 1e300, allowed=float(np.finfo(np.float32).max)):
        Arrays(path=npz(x=np.where(X == 4, 1e300, X), y=Y)).load()


@pytest.mark.parametrize("label", [1e300, 2.0**40])
def test_labels_that_number_no_classes_are_refused_as_they_stand(npz: Callable[..., str], label: float) -> None:
    with refused(DataError, "y", label):
        Arrays(path=npz(x=X, y=np.where(Y, label, 0))).load()


def test_a_large_feature_that_never_varies_has_room_to_move(npz: Callable[..., str]) -> None:
    data = Arrays(path=npz(x=np.stack([X[:, 0], np.full(8, 20_200_101_000)], 1), y=Y), drop=()).load()
    assert (data.low < data.high).all()


def test_records_without_a_number_are_refused(npz: Callable[..., str]) -> None:
    with pytest.raises(DataError, match="at least one number"):
        Arrays(path=npz(x=X[:, :0], y=Y)).load()


def test_names_in_bytes_are_names(npz: Callable[..., str]) -> None:
    data = Arrays(path=npz(x=X, y=Y, feature_names=np.array([b"a", b"b", b"c"]), class_names=[b"well", b"ill"])).load()
    assert (data.feature_names, data.class_names) == (("a", "b", "c"), ("well", "ill"))


def test_names_with_separators_and_quotes_are_kept(npz: Callable[..., str], parquet: Callable[..., str]) -> None:
    names = ["pressure, systolic", 'tube 5"', "a;b\tc"]
    assert Arrays(path=npz(x=X, y=Y, feature_names=names)).load().feature_names == tuple(names)
    columns = dict(zip(names, X.T, strict=True))
    assert Arrays(path=parquet({**columns, "y": Y})).load().feature_names == tuple(names)


def test_two_columns_that_may_be_the_label_are_refused(parquet: Callable[..., str]) -> None:
    with refused(DataError, "path", "y."):
        Arrays(path=parquet({"age": X[:, 0], "y": Y, "y.": 1 - Y})).load()


def test_a_column_of_numbers_called_x_is_a_feature(parquet: Callable[..., str]) -> None:
    assert Arrays(path=parquet({"x": X[:, 0], "z": X[:, 1], "y": Y})).load().feature_names == ("x", "z")


def test_names_that_only_look_alike_to_a_reader_are_refused(npz: Callable[..., str]) -> None:
    with refused(DataError, "feature_names", "cafe\u0301"):
        Arrays(path=npz(x=X, y=Y, feature_names=["caf\u00e9", "cafe\u0301", "tea"])).load()


def test_a_feature_called_split_is_asked_and_a_split_can_be_left_out(
    npz: Callable[..., str], parquet: Callable[..., str]
) -> None:
    path = npz(x=X, y=Y, feature_names=["age", "Split", "dose"])
    with refused(DataError, "features", "Split"):
        Arrays(path=path).load()
    assert Arrays(path=path, features=("Split",)).load().feature_names == ("age", "Split", "dose")
    assert Arrays(path=path, drop=("Split",)).load().feature_names == ("age", "dose")
    other = parquet({"age": X[:, 0], "y": Y, "split": ["loud", "soft"] * 4})
    assert Arrays(path=other, drop=("split",)).load().official is None


def test_features_without_names_are_dropped_by_their_place(npz: Callable[..., str]) -> None:
    path = npz(x=X, y=Y)
    data = Arrays(path=path, drop=("feature 1",)).load()
    assert data.feature_names == ("feature 0", "feature 2") and np.array_equal(data.x, X[:, [0, 2]])
    with refused(DataError, "drop", "feature 3"):
        Arrays(path=path, drop=("feature 3",)).load()


def test_hospitals_are_no_feature_and_become_the_sites(npz: Callable[..., str]) -> None:
    ward = np.array(["a", "b"])[np.arange(8) % 2]
    data = Arrays(path=npz(x=X, y=Y, ward=ward, patient=np.arange(8)), site="ward").load()
    assert data.site is not None and data.site.tolist() == ward.tolist()
    assert (data.shape, data.group_kind) == ((3,), "patient")
    grouped = Arrays(path=npz(x=X, y=Y, hospital=ward), group="hospital").load()
    assert grouped.site is not None and grouped.site.tolist() == ward.tolist()
    assert grouped.group_kind == "site"
    assert Arrays(path=npz(x=X, y=Y)).load().site is None
    with refused(DataError, "site", "wards"):
        Arrays(path=npz(x=X, y=Y, ward=ward), site="wards").load()
