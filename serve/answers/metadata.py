"""Metadata of the Open Inference Protocol, the same for REST and gRPC: of the server, its models and their versions."""

import numpy as np

import assay
from serve import messages as m
from serve.repository.loaded import Loaded
from serve.repository.online import Online

EXTENSIONS = ["binary_tensor_data", "model_repository"]


def server_metadata() -> m.ServerMetadata:
    """Returns name, version and extensions of the server."""
    return m.ServerMetadata(version=assay.__version__, extensions=EXTENSIONS)


def index_of(loaded: Loaded, *, ready: bool = False) -> list[m.IndexEntry]:
    """Lists the versions of all models.

    Args:
        loaded: the models.
        ready: whether to leave out those that could not be loaded.

    Returns:
        One entry a version.
    """
    failing = {} if ready else loaded.failing
    entries = []
    for name in sorted({*loaded.names, *failing}):
        versions = loaded.versions(name) if name in loaded.names else []
        entries += [m.IndexEntry(name=name, version=version, state="READY") for version in versions]
        entries += [
            m.IndexEntry(name=name, version=version, state="UNAVAILABLE", reason=why)
            for version, why in failing.get(name, {}).items()
        ]
    return entries


def metadata_of(online: Online, versions: list[str]) -> m.ModelMetadata:
    """Returns what a caller must know to build a request.

    Args:
        online: the version.
        versions: all loaded versions of the model.

    Returns:
        The metadata.
    """
    model, dataset = online.model, online.model.dataset
    return m.ModelMetadata(
        name=online.name,
        versions=versions,
        artefact=online.artefact,
        trial=online.card.trial,
        inputs=[
            m.TensorInfo(name="records", datatype="BYTES", shape=[-1])
            if model.reads_text
            else m.TensorInfo(name="records", datatype="FP32", shape=[-1, *dataset.shape])
        ],
        outputs=[
            m.TensorInfo(name="probabilities", datatype="FP32", shape=[-1, dataset.classes]),
            m.TensorInfo(name="class_index", datatype="INT64", shape=[-1]),
        ],
        class_names=list(dataset.class_names),
        feature_names=list(dataset.feature_names),
        units=dataset.units,
        preprocessing=dataset.preprocessing,
        low=[] if model.reads_text else np.broadcast_to(dataset.low, dataset.shape).tolist(),
        high=[] if model.reads_text else np.broadcast_to(dataset.high, dataset.shape).tolist(),
        epsilons=list(dataset.epsilons),
        default_explanation=model.default.method.name,
        explanations=["integrated_gradients"] + ([] if model.unexplained else ["shap"]),
        certificates=not model.unbounded,
        threshold=model.threshold,
    )
