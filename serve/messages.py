"""Requests of all calls, and responses of the Open Inference Protocol. ``serve.answer_messages`` has the others."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class Request(BaseModel):
    """Request that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


RecordList = Annotated[
    list[Any],
    Field(
        min_length=1,
        description="Records: nested lists of inputs of the model; objects of features by name, with clinical values; "
        'images, {"png": BASE64} or {"dicom": BASE64}; signals, {"signal": list, "rate": number}; or texts.',
    ),
]
ABOUT = Field(
    default=None,
    description="Facts about all records, or a list with those of each: age in years, sex, species, modality, "
    "body_part, view, site. A record outside the intended use is refused, whatever its `site`, which decides whether "
    "the prediction set and the rule of abstention of `:answer` are promised for it (`valid`).",
)


OVERLAY = Field(
    default=False, description="Whether to give each explanation of an image as a picture too, in pixels of the source."
)


class Parameters(Request):
    """Parameters of the Open Inference Protocol. One that is not supported is refused, never ignored."""

    @model_validator(mode="before")
    @classmethod
    def _only_supported(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.keys() <= cls.model_fields.keys():
            raise PydanticCustomError(
                "parameters", "none but {known} is supported", {"known": ", ".join(cls.model_fields)}
            )
        return given


class RequestParameters(Parameters):
    """Parameters of a request."""

    binary_data_output: bool = Field(default=False, description="Whether outputs are binary that say nothing else.")


class InputParameters(Parameters):
    """Parameters of an input tensor."""

    binary_data_size: int | None = Field(
        default=None, description="Length in bytes of the binary tensor, which follows the JSON."
    )


class OutputParameters(Parameters):
    """Parameters of an output tensor."""

    binary_data: bool | None = Field(default=None, description="Whether this output is binary.")


class InputTensor(Request):
    """All records of a request as one tensor."""

    name: Literal["records"]
    shape: Annotated[
        list[Annotated[int, Field(ge=1)]],
        Field(min_length=1, max_length=8, description="Number of records, then the shape of a record."),
    ]
    datatype: Literal["FP32", "FP64", "BYTES"]
    data: list[Any] | None = Field(
        default=None,
        description="Flat in row-major order, or nested; texts of a model of texts. Absent in a binary tensor.",
    )
    parameters: InputParameters = Field(default_factory=InputParameters)


class OutputWanted(Request):
    """Name of a requested output tensor."""

    name: Literal["probabilities", "class_index"]
    parameters: OutputParameters = Field(default_factory=OutputParameters)


def _each_once(outputs: list[OutputWanted]) -> list[OutputWanted]:
    if len({output.name for output in outputs}) < len(outputs):
        raise PydanticCustomError("twice", "each output may be asked for once")
    return outputs


class InferRequest(Request):
    """Request of the Open Inference Protocol."""

    id: Annotated[str, Field(max_length=128)] | None = None
    model_name: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="As KServe's client sends it; must be the name in the path."
    )
    model_version: Annotated[str, Field(max_length=64)] | None = Field(default=None, description="Likewise.")
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[OutputWanted], Field(max_length=8), AfterValidator(_each_once)] = Field(
        default_factory=list, description="All of them by default."
    )
    parameters: RequestParameters = Field(default_factory=RequestParameters)

    def is_binary(self, output: OutputWanted) -> bool:
        """Returns whether an output is answered as a binary tensor."""
        own = output.parameters.binary_data
        return self.parameters.binary_data_output if own is None else own


class RecordsRequest(Request):
    """Request about records, with what is known of them."""

    instances: RecordList
    about: dict[str, Any] | list[Any] | None = ABOUT


class PredictRequest(RecordsRequest):
    """Request for predictions."""


class ExplainRequest(RecordsRequest):
    """Request for explanations."""

    method: Literal["default", "integrated_gradients", "shap"] = Field(
        default="default",
        description="`default` is the method of the study's evaluation of explanations, with its "
        "settings; `faithfulness` of the answer says whether the card states its faithfulness.",
    )
    overlay: bool = OVERLAY


class CertifyRequest(RecordsRequest):
    """Request for certificates."""

    epsilons: Annotated[
        list[Annotated[float, Field(ge=0, allow_inf_nan=False)]],
        Field(max_length=32, description="Radii (L∞) in the units of the data; those of the data set by default."),
    ] = Field(default_factory=list)


class AnswerRequest(RecordsRequest):
    """Request for everything about each record."""

    explain: bool = Field(default=True, description="Whether to explain each prediction.")
    certify: bool = Field(default=True, description="Whether to certify each prediction.")
    overlay: bool = OVERLAY


class Origin(BaseModel):
    """Which model answered."""

    model_name: str
    model_version: str
    artefact: str = Field(description="Hash of its weights.")


class IndexRequest(Request):
    """Request for the versions of all models."""

    ready: bool = Field(default=False, description="Whether to leave out versions that could not be loaded.")


class IndexEntry(BaseModel):
    """One version of a served model."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = ""


class TensorInfo(BaseModel):
    """Name, type and shape of a tensor."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1 is the number of records.")


class OutputTensor(TensorInfo):
    """Output tensor with its data, flat in row-major order."""

    data: list[float] | list[int] | None = Field(default=None, description="Absent in a binary tensor.")
    parameters: dict[str, int] | None = Field(
        default=None, description="Of a binary tensor, `binary_data_size`: its length in bytes."
    )


class InferResponse(Origin):
    """Response of the Open Inference Protocol."""

    id: str | None = None
    parameters: dict[str, str] | None = Field(
        default=None, description="`warnings` about records: values outside the training range."
    )
    outputs: list[OutputTensor]


class ServerMetadata(BaseModel):
    """Name and version of the server."""

    name: str = "assay"
    version: str
    extensions: list[str] = []


class ModelMetadata(BaseModel):
    """Inputs, outputs, classes and abilities of the model."""

    name: str
    versions: list[str] = Field(description="Loaded versions; the first answers where a path names none.")
    artefact: str = Field(description="Hash of the weights of this version.")
    trial: str = Field(description="Trial of the study in which it was trained and measured.")
    platform: str = "pytorch"
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    class_names: list[str]
    feature_names: list[str]
    units: str
    preprocessing: str
    low: list[Any] = Field(description="Least valid value of each input, in the shape of a record; empty for texts.")
    high: list[Any] = Field(description="Greatest valid value of each input, in the shape of a record.")
    epsilons: list[float] = Field(description="Radii for which certificates are given by default.")
    explanations: list[str] = Field(description="Methods that can explain this model, beside its default.")
    default_explanation: str = Field(description="Method that explains where a request names none.")
    certificates: bool = Field(description="Whether the model can be certified by interval bounds.")
    threshold: float | None = Field(
        default=None,
        description="Least probability of the second class at which it is predicted, on the uncalibrated scale of "
        "`:predict`; for `:answer` use `decided_at.threshold`. Null without a threshold.",
    )


class ModelStatus(BaseModel):
    """Readiness of a model."""

    name: str
    ready: bool


class ModelList(BaseModel):
    """Names of the served models."""

    models: list[str]


class Health(BaseModel):
    """Health of the server."""

    live: bool | None = None
    ready: bool | None = None


class Refusal(BaseModel):
    """Error response."""

    error: str = Field(description="What is wrong and what is allowed; never the data of the request.")
    reason: str = Field(default="", description="Code for programs, where the status does not say enough.")
