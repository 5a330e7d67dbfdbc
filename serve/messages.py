"""What is sent and answered. v2 is the Open Inference Protocol, v1 the data plane of KServe and TensorFlow Serving."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Request(BaseModel):
    """Refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


RecordList = Annotated[
    list[Any],
    Field(
        min_length=1,
        description="RecordList, nested in their shape, in the units and bounds that the metadata give; or texts.",
    ),
]


class InputTensor(Request):
    """All records as one tensor."""

    name: Literal["records"]
    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, description="RecordList × their shape.")]
    datatype: Literal["FP32", "FP64"]
    data: Annotated[list[Any], Field(description="Flat in row-major order, or nested.")]
    parameters: dict[str, Any] = Field(default_factory=dict, description="Ignored.")


class OutputWanted(Request):
    name: Literal["probabilities", "class_index"]
    parameters: dict[str, Any] = Field(default_factory=dict, description="Ignored.")


class InferRequest(Request):
    id: Annotated[str, Field(max_length=128)] | None = None
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1)]
    outputs: list[OutputWanted] = Field(default_factory=list, description="All of them by default.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Ignored.")


class PredictRequest(Request):
    instances: RecordList


class ExplainRequest(Request):
    instances: RecordList
    method: Literal["integrated_gradients", "shap"] = "integrated_gradients"


class CertifyRequest(Request):
    instances: RecordList
    epsilons: Annotated[
        list[Annotated[float, Field(ge=0, allow_inf_nan=False)]],
        Field(max_length=32, description="Radii (L∞) in the units of the data; those of the data set by default."),
    ] = Field(default_factory=list)


class TensorInfo(BaseModel):
    name: str
    datatype: str
    shape: list[int] = Field(description="-1 is the number of records.")


class OutputTensor(TensorInfo):
    data: list[float] | list[int]


class InferResponse(BaseModel):
    model_name: str
    model_version: str = Field(description="Trial of the study in which the model was trained and measured.")
    id: str | None = None
    outputs: list[OutputTensor]


class ServerMetadata(BaseModel):
    name: str = "assay"
    version: str
    extensions: list[str] = []


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
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
    explanations: list[str] = Field(description="Methods that can explain this model.")
    certificates: bool = Field(description="Whether interval bounds can follow this model.")
    threshold: float | None = Field(
        default=None,
        description="Probability of the second class from which on it is predicted; null where the likeliest class is.",
    )


class ModelStatus(BaseModel):
    name: str
    ready: bool


class ModelList(BaseModel):
    models: list[str]


class Health(BaseModel):
    live: bool | None = None
    ready: bool | None = None


class Prediction(BaseModel):
    class_name: str
    class_index: int
    probabilities: dict[str, float] = Field(description="By class.")


class PredictResponse(BaseModel):
    predictions: list[Prediction]


class Explanation(BaseModel):
    class_name: str = Field(description="The predicted class, whose logit is explained.")
    words: list[str] | None = Field(default=None, description="Of a text, what each attribution is of.")
    attributions: list[Any] = Field(
        description="What each input adds to the logit, in the shape of a record; of a text, what each word adds."
    )
    error: float = Field(description="How far the attributions are from adding up to the change of the logit.")


class ExplainResponse(BaseModel):
    method: str
    compared_with: str = Field(description="What stands for a missing input.")
    error_is: str = Field(description="Completeness error or additivity error.")
    explanations: list[Explanation]


class Certificate(BaseModel):
    class_name: str
    certified: list[bool] = Field(description="For each radius, whether no change within it changes the class.")


class CertifyResponse(BaseModel):
    norm: str = "linf"
    units: str
    method: str = "interval bounds"
    holds_for: str = "this model, answering without randomness"
    epsilons: list[float]
    certificates: list[Certificate]


class Refusal(BaseModel):
    error: str = Field(description="What is wrong and what is allowed; never what was sent.")
