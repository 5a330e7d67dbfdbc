"""Recognises files that are not safetensors, and says how to convert them. Nothing is unpickled."""

import zipfile
from io import BytesIO
from pathlib import PurePath

_SAVE = "save model.state_dict() with safetensors.torch.save_file"
_PICKLE = "Assay never unpickles: load it yourself where you trust it and "
_ESTIMATOR = _PICKLE + "give --model package.module:factory that returns it, or skops.io.dump it"
_MAGIC = (
    (b"\x89HDF", "an HDF5 file (Keras)", "Assay reads PyTorch, ONNX and scikit-learn: export it as ONNX"),
    (b"\x93NUMPY", "one NumPy array", _SAVE),
    (b"GGUF", "a GGUF file", _SAVE),
    (
        b"\x1f\x8b",
        "compressed with gzip, as joblib does",
        _ESTIMATOR,
    ),
    # The two bytes of a zlib header, by level of compression.
    *((head, "compressed with zlib, as joblib does", _ESTIMATOR) for head in (b"x\x01", b"x^", b"x\x9c", b"x\xda")),
    (b"BZh", "compressed with bzip2, as joblib does", _ESTIMATOR),
    (b"\xfd7zXZ", "compressed with xz, as joblib does", _ESTIMATOR),
)
_ESTIMATORS = (".joblib", ".pkl", ".pickle")


def describe_file(content: bytes, name: str) -> str:
    """Returns what a file is and how to convert it; empty if it is not recognised.

    Args:
        content: of the file.
        name: of the file. Its extension tells a scikit-learn pickle from one of PyTorch.

    Returns:
        A clause for an error message.
    """
    ending = PurePath(name).suffix.lower()
    if ending == ".onnx":
        return "it is an ONNX model, structure and weights: give it as --model and leave --weights out"
    for magic, what, then in _MAGIC:
        if content.startswith(magic):
            return f"it is {what}, and {then}" if then.startswith("Assay") else f"it is {what}: {then}"
    if content[:1] == b"\x80" and ending in _ESTIMATORS:
        return f"it is a pickled estimator (joblib or pickle), and {_ESTIMATOR}"
    if content[:1] == b"\x80":
        return f"it is a pickled checkpoint (torch.save), and {_PICKLE}{_SAVE}"
    if content[:2] == b"PK":
        return _archive(content)
    return ""


def _archive(content: bytes) -> str:
    """Returns what a zip archive is, by the names of its files: torch.save, npz, Keras or skops."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "it is a damaged zip archive: save it again"
    if "schema.json" in names:
        return "it is a skops file of a scikit-learn estimator: give it as --model and leave --weights out"
    if names and all(name.endswith(".npy") for name in names):
        return f"it is a NumPy archive (.npz): {_SAVE}"
    if "model.weights.h5" in names:
        return "it is a Keras model: Assay reads PyTorch, ONNX and scikit-learn: export it as ONNX"
    return f"it is a pickled checkpoint (torch.save), and {_PICKLE}{_SAVE}"
