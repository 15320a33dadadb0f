"""What a search was asked for: one frozen value, checked at the door."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from envs.bit_allocation import BudgetRule
from envs.observation import ObservationKind
from haq.budgets import parse_budgets
from haq.errors import UserError, validation_message
from hardware_sim.accelerator import MAX_BATCH
from hardware_sim.cost import Objective

AgentName = Literal["ddpg", "ddpg-paper", "random", "evolution", "greedy", "ilp", "tpe", "uniform"]
EngineName = Literal["auto", "onnxruntime", "torch"]
QuantizerName = Literal["linear", "kmeans"]
CalibrationMethod = Literal["kl", "kl-tensorrt", "mse", "percentile", "max"]
ZeroPoints = Literal["auto", "none"]
Rounding = Literal["nearest", "gptq"]
"""To the nearest integer, or so that errors in the layer's outputs cancel (GPTQ)."""
Normalization = Literal["imagenet", "half", "none"]
RewardKind = Literal["accuracy", "fidelity"]
PriorName = Literal["fisher", "measured", "none"]
DeviceName = Literal["cpu", "cuda"]
Width = Annotated[int, Field(strict=True, ge=1, le=8)]
Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
MOST_SEEDS = 1000
"""Of a comparison or a sweep."""
EIGHT_BITS = ("1",)
"""The budget that is the cost of 8 bits everywhere."""

MODEL_SETTINGS = ("model", "weights", "input")
DATA_SETTINGS = (
    "data",
    "search_from",
    "search_images",
    "report_images",
    "calibration_images",
    "split_seed",
    "normalize",
    "resize",
    "crop",
    "eval_batch",
)
DEVICE_SETTINGS = ("hardware", "batch")
DECIDE_QUANTIZERS = (
    "model",
    "weights",
    "data",
    "search_from",
    "search_images",
    "calibration_images",
    "split_seed",
    "normalize",
    "resize",
    "crop",
    "quantizer",
    "calibration",
    "zero_points",
    "rounding",
    "corrections",
)
"""Settings that quantizers and corrections depend on."""


class SearchConfig(BaseModel):
    """Everything that decides the result of a run; written to its `config.json` as it was resolved.

    The fields are the flags of the command line; `first_last_bits` None searches these layers like the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field("digits_cnn", description="digits_cnn, torchvision:NAME, timm:NAME or package.module:callable.")
    weights: str | None = Field(None, description="Weights: a torch archive, safetensors or .npz, read by content.")
    data: str = Field(
        "digits", description="digits, cifar10:DIR, fashion_mnist:DIR, imagefolder:DIR or package.module:callable."
    )
    search_from: Literal["val", "train"] = Field("val", description="Which part of the data the reward is measured on.")
    search_images: Count | None = Field(
        None, description="How many images the search may use: four fifths make the reward, the last names the winner."
    )
    report_images: Count | None = Field(None, description="How many images the report is measured on.")
    calibration_images: Count = Field(512, description="How many images the quantizers are calibrated on.")
    split_seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = Field(
        0, description="Seed that draws which images calibrate, reward, select and report."
    )
    normalize: Normalization | None = Field(None, description="Normalization of images, instead of the model's own.")
    resize: Count | None = Field(None, description="Pixels of the shorter side, instead of the model's own.")
    crop: Count | None = Field(None, description="Pixels of the centre crop, instead of the model's own.")
    input: tuple[Count, Count, Count] | None = Field(
        None, description="Shape of one input, such as 3x224x224; otherwise that of the data."
    )
    hardware: str = Field("bismo-edge", description="A device: its name, a .toml file or a .csv table.")
    batch: Annotated[int, Field(strict=True, ge=1, le=MAX_BATCH)] | None = Field(
        None, description="Images that the hardware works on at once; the device's own if not given."
    )
    objective: Objective = Field("latency", description="What the budget limits.")
    budget: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("0.6",),
        description="[OBJECTIVE=]VALUE: a ratio of 8-bit cost, 12ms, 250kB, or 4bits, what these cost; repeatable.",
    )
    max_accuracy_drop: float | None = Field(
        None,
        description="Find the least cost at a loss of at most so many points of accuracy, such as 0.5; no budget.",
    )
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None = Field(
        None,
        description="Confidence, such as 0.95, with which images must show that --max-accuracy-drop is kept.",
    )
    agent: AgentName = Field("ddpg", description="Who proposes the bits.")
    episodes: Count = Field(300, description="Policies to try.")
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = Field(
        0, description="Seed of everything that is random."
    )
    prior: PriorName = Field(
        "fisher",
        description="What all but random and ddpg-paper know first: by a backward pass, or each width measured alone.",
    )
    reward: RewardKind = Field("fidelity", description="What is rewarded: accuracy, or closeness to the float outputs.")
    observation: ObservationKind = Field("haq", description="What the agent sees: the paper's ten numbers, or more.")
    budget_rule: BudgetRule = Field(
        "cost-aware", description="How the budget is kept: knowing costs, or as in the paper."
    )
    min_bits: Width = Field(2, description="Fewest bits.")
    max_bits: Width = Field(8, description="Most bits.")
    first_last_bits: Width | None = Field(
        8, description="Bits of the first and the last layer, or free to search them."
    )
    pin: dict[str, Width] = Field(default_factory=dict, description="NAME=BITS: a layer's bits, fixed; repeatable.")
    a_bits: Width = Field(8, description="Bits of all activations under the size objective.")
    quantizer: QuantizerName = Field("linear", description="The quantizer of weights: integers, or k-means codebooks.")
    calibration: Literal["auto"] | CalibrationMethod = Field("auto", description="How clips are chosen.")
    zero_points: ZeroPoints = Field(
        "auto", description="Zero points of activations: where they pay, with mse clips; or none."
    )
    rounding: Literal["auto"] | Rounding = Field(
        "auto", description="Weights by GPTQ from the inputs (auto, for integers that do not learn), or to the nearest."
    )
    corrections: Literal["auto", "none"] = Field(
        "auto", description="Re-estimate batch norms and correct biases for every policy, or not."
    )
    episode_finetune_steps: Annotated[int, Field(strict=True, ge=0, le=10**6)] = Field(
        0, description="Steps of fine-tuning that every policy gets before it is evaluated."
    )
    episode_finetune: Literal["all", "quantizers"] = Field(
        "all", description="What learns in these steps: everything, or scales and shifts alone."
    )
    eval_batch: Count = Field(256, description="Images in one forward pass.")
    engine: EngineName = Field(
        "auto",
        description="What runs the quantized network: torch, or onnxruntime in integers; auto: the faster that agrees.",
    )
    device: DeviceName = Field("cpu", description="Where torch runs.")

    @field_validator("max_accuracy_drop")
    @classmethod
    def _drop_is_in_points(cls, points: float | None) -> float | None:
        if points is not None and not 0 <= points < 100:
            raise ValueError("write points of accuracy from 0 to below 100, such as 0.5")
        return points

    @field_validator("max_bits")
    @classmethod
    def _range_is_not_empty(cls, max_bits: int, info: Any) -> int:
        least = info.data.get("min_bits")
        if least is not None and max_bits < least:
            raise ValueError(f"must be at least min_bits, which is {least}")
        return max_bits


def search_config(**settings: Any) -> SearchConfig:
    """A checked configuration. Raises UserError, naming the setting, the value it had and what would be right.

    `budget` may be a number, a text, several of them, or a mapping from objectives to them. With `max_accuracy_drop`,
    in points of accuracy, the budget is the cost of 8 bits, and any other is refused.

    >>> search_config(episodes=20, budget={"latency": 0.6, "size": "250kB"}).budget
    ('latency=0.6', 'size=250kB')
    """
    budget = settings.pop("budget", None)
    if budget is not None:
        settings["budget"] = _budget_texts(budget)
    if settings.get("max_accuracy_drop") is not None:
        if settings.get("budget", EIGHT_BITS) != EIGHT_BITS:
            raise UserError("--budget limits the cost and --max-accuracy-drop looks for the least: give one of them")
        settings["budget"] = EIGHT_BITS
    elif settings.get("confidence") is not None:
        raise UserError("--confidence needs --max-accuracy-drop, such as --max-accuracy-drop 1")
    try:
        config = SearchConfig(**settings)
    except ValidationError as error:
        raise UserError(_first_problem(error)) from error
    parse_budgets(config.budget, config.objective)
    return config


def _budget_texts(budget: object) -> tuple[str, ...]:
    """Budgets as on the command line."""
    if isinstance(budget, Mapping):
        return tuple(f"{objective}={value}" for objective, value in budget.items())
    several = budget if isinstance(budget, list | tuple) else (budget,)
    return tuple(str(each) for each in several)


def _first_problem(error: ValidationError) -> str:
    """Describe the first problem, for an unknown setting with the nearest known one."""
    problem = error.errors(include_url=False)[0]
    if problem["type"] != "extra_forbidden":
        return validation_message(error, as_flag=True)
    setting = str(problem["loc"][0])
    close = get_close_matches(setting, SearchConfig.model_fields, n=1)
    return f"unknown setting {setting!r}" + (f"; did you mean {close[0]!r}?" if close else "")
