"""Responses of the calls under ``/v1/models``: predictions, explanations, certificates and whole answers."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from serve.messages import Origin


class Prediction(BaseModel):
    """Predicted class of one record, with all probabilities."""

    class_name: str
    class_index: int
    probabilities: dict[str, float] = Field(description="Probability of each class.")
    warnings: list[str] | None = Field(
        default=None,
        description="Values outside the training range, missing values that were filled, words that were not read.",
    )


class PredictResponse(Origin):
    """Predictions, one for each record."""

    predictions: list[Prediction]


class Overlay(BaseModel):
    """Explanation of an image as a picture that is laid over it."""

    png: str = Field(
        description="PNG in base64 that covers the image, with at most 2048 pixels a side: colours by value, and "
        "transparent where the value is 0."
    )
    record: str = Field(description="PNG in base64 of the record as the model takes it.")
    source: list[int] = Field(description="Height and width in pixels of the image that it covers.")
    box: list[float] = Field(
        description="Left, upper, right and lower end of the part that became the record, in pixels of that image."
    )


class Explanation(BaseModel):
    """Attribution of one record's prediction to its inputs."""

    class_name: str = Field(description="The predicted class, which is explained.")
    words: list[str] | None = Field(default=None, description="For a text, the word that each attribution belongs to.")
    attributions: list[Any] = Field(
        description="Contribution of each input to the log-odds of that class (SHAP: its logit minus the mean of the "
        "others), in the shape of a record; for a text, of each word."
    )
    error: float | None = Field(
        description="Difference between the sum of the attributions and the change that is explained, relative to that "
        "change, or to the greatest attribution where that is larger; null for a method whose values need not add up."
    )
    value_error: float | None = Field(
        default=None, description="Greatest difference of a value between two rules, relative to the greatest value."
    )
    overlay: Overlay | None = None
    warnings: list[str] | None = Field(default=None, description="About the record, as in predictions.")


class MeasuredFaithfulness(BaseModel):
    """Measured faithfulness of an explanation method, on test records of this model."""

    value: float = Field(
        description="On a scale from 0 (as good as a map that ignores the model) to 1 (best order known)."
    )
    low: float | None = Field(description="Lower end of its 95 % interval; null where there is none.")
    high: float | None = Field(description="Upper end of its 95 % interval.")
    unit: str
    n: int = Field(description="Test records behind the value.")
    verdict: Literal["pass", "inconclusive", "warn"] | None = Field(
        description="Whether the maps are shown to be better than every control; null where that was not checked."
    )
    p: float | None = Field(description="p of that verdict, after correction over the methods of the study.")
    verdict_is: str = Field(description="The verdict in words.")


class Fidelity(BaseModel):
    """How true the explanations of a call are known to be."""

    method: str
    settings: dict[str, Any] = Field(description="Those that are not the usual ones.")
    compared_with: str
    error_is: Literal["completeness", "additivity"] | None = Field(
        description="What `error` of each explanation measures; null for a method whose values need not add up."
    )
    error_limit: float | None = Field(
        description="Greatest error of the sum, and of a single value; an explanation beyond it has a warning."
    )
    stated: bool = Field(description="Whether the card states the faithfulness of this method with these settings.")
    why_not: str = Field(description="Why it does not; empty where it does.")
    faithfulness: MeasuredFaithfulness | None = Field(description="Null where it is not stated: nothing was measured.")
    seconds: float | None = Field(
        description="Wall time of explaining one record, as the study measured it; null likewise."
    )


class AboutExplanations(BaseModel):
    """What holds for all explanations of a call."""

    method: str = Field(description="The method that explained: for `default`, the one that it stands for.")
    explained: str = Field(description="The number to which the attributions contribute.")
    compared_with: str = Field(description="The reference with which the record is compared.")
    faithfulness: str = Field(
        description="Whether the card states the faithfulness of this method with these settings, in words."
    )
    error_is: str = Field(
        description="Kind of `error`, completeness or additivity, and what it is relative to; or that there is none."
    )
    fidelity: Fidelity
    overlay_scale: float | None = Field(
        default=None, description="Absolute value at which the colours of all overlays of the call end."
    )


class ExplainResponse(AboutExplanations, Origin):
    """Explanations, one for each record."""

    explanations: list[Explanation]


class Certificate(BaseModel):
    """Certificate of one record."""

    class_name: str
    certified: list[bool] = Field(
        description="For each radius, whether it is proven that no change within it changes the class."
    )
    warnings: list[str] | None = Field(default=None, description="About the record, as in predictions.")


class AboutCertificates(BaseModel):
    """What holds for all certificates of a call. They say nothing of whether a class is right."""

    norm: str = Field(default="linf", description="Of the change: `linf`, the greatest change of an input.")
    units: str = Field(description="Units of the radii.")
    method: str = "interval bounds"
    holds_for: str = "this model, answering without randomness"
    epsilons: list[float] = Field(description="Radii within which a proof was tried.")


class CertifyResponse(AboutCertificates, Origin):
    """Certificates, one for each record."""

    certificates: list[Certificate]


class PredictionSet(BaseModel):
    """Conformal set.

    Of records like those of the calibration, a share ``coverage`` have their true class in it; null where that is not
    promised.
    """

    classes: list[str] = []
    coverage: float | None = Field(default=None, description="Promised coverage; null where `valid` is false.")
    nominal_coverage: float | None = Field(
        default=None, description="Coverage for which the set was calibrated, promised or not; null without a set."
    )
    coverage_checked: bool = Field(
        description="Whether the study measured the coverage of such sets on test records, at this nominal coverage."
    )
    valid: bool = Field(
        description="Whether the coverage is promised for this record: it is like those that calibrated the set, of "
        "one of their hospitals by what the caller or the header states, and no check speaks against the coverage."
    )
    why_not: str = ""


class Unfamiliarity(BaseModel):
    """How unlike the held-out records a record is."""

    score: float
    limit: float | None = Field(
        description="99 % of the held-out records score at or below it; null without held-out records."
    )
    unfamiliar: bool | None = Field(
        description="Whether it is above the limit, or outside the training range; null where nothing was measured."
    )
    why: str = Field(description="Why it is unfamiliar, or why that is not known; empty for a familiar record.")


class Abstention(BaseModel):
    """Whether the record is left to the clinician."""

    left: bool | None = Field(description="Null where no rule of abstention could be chosen: nothing was measured.")
    why: str = Field(description="Why it is left, or why that is not known; empty where the model answers.")
    valid: bool = Field(
        description="Whether the risk of the rule is promised for this record: it is like the held-out records, of one "
        "of their hospitals by what the caller or the header states, and no check speaks against the risk."
    )
    why_not_valid: str = Field(description="Empty where it is.")
    risk_checked: bool = Field(
        description="Whether the study measured the share of wrong answers of such a rule on test records."
    )


class DecidedAt(BaseModel):
    """The operating point at which the class of a record was decided."""

    class_name: str = Field(description="The class that is decided where its probability reaches the threshold.")
    threshold: float = Field(description="On the scale of `probabilities`: calibrated where these are.")
    uncalibrated_probability: float = Field(description="Probability of that class as the model gives it.")
    uncalibrated_threshold: float = Field(description="The threshold on that scale, as the model's metadata state it.")


class NotGiven(BaseModel):
    """Why a part of an answer is absent."""

    not_given: str


class RecordCertificate(BaseModel):
    """Certificate of one record in a whole answer."""

    certified: list[bool] = Field(
        description="For each of `epsilons`, whether it is proven that no change within it changes the class."
    )
    radius: float = Field(description="Greatest of these radii with a proof; 0 without one.")


class Answer(Prediction):
    """Everything about one record."""

    probabilities: dict[str, float] = Field(
        description="Probability of each class, calibrated where `probabilities_are` says so; `:predict` gives those "
        "of the model itself."
    )
    probabilities_are: str = Field(
        description="Whether they are calibrated, and on records of which hospitals: elsewhere they may not agree with "
        "frequencies."
    )
    decided_at: DecidedAt | None = Field(
        default=None, description="The operating point; null where the likeliest class is the answer."
    )
    prediction_set: PredictionSet
    out_of_distribution: Unfamiliarity
    left_to_clinician: Abstention
    explanation: Explanation | NotGiven | None = None
    certificate: RecordCertificate | None = None


class AnswerResponse(Origin):
    """Everything about each record."""

    answers: list[Answer]
    explanation: AboutExplanations | None = Field(default=None, description="What holds for all explanations.")
    certificate: AboutCertificates | NotGiven | None = Field(
        default=None, description="What holds for all certificates, or why there are none."
    )
    calibrated_on: str = Field(description="Records that calibrated probabilities, sets and abstention.")
    against: list[str] = Field(description="What the model's checks say against it.")
    checks: int = Field(description="Number of the checks that judged the model; after none, `against` says nothing.")
