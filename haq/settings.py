"""Groups of settings of a run, with their defaults and limits.

A setting is written once, as a field of its group: command-line flags, their help and the lists of settings are derived
from the groups.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from agents.registry import METHODS
from envs.observation import ObservationKind
from envs.rollout import BudgetRule
from haq.budgets import BudgetSpec, parse_budgets
from haq.layer_bits import Width
from hardware_sim.accelerator import MAX_BATCH
from hardware_sim.cost import Objective

EngineName = Literal["auto", "onnxruntime", "torch"]
QuantizerName = Literal["linear", "kmeans"]
CalibrationMethod = Literal["kl", "kl-tensorrt", "mse", "percentile", "max"]
ZeroPoints = Literal["auto", "none"]
Rounding = Literal["nearest", "gptq"]
"""Rounding to the nearest integer, or so that errors in the layer's outputs cancel (GPTQ)."""
Normalization = Literal["imagenet", "half", "none"]
RewardKind = Literal["accuracy", "fidelity"]
PriorName = Literal["fisher", "measured", "none"]
DeviceName = Literal["cpu", "cuda"]
Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
MAX_SEEDS = 1000
"""Maximum number of seeds of a comparison or a sweep."""
MAX_PROPOSALS = 10_000
"""Maximum number of policies that are proposed at a time."""


def _known_method(name: str) -> str:
    if name not in METHODS:
        *names, last = map(repr, METHODS)
        raise ValueError(f"input should be {', '.join(names)} or {last}")
    return name


class Group(BaseModel):
    """Base class of groups of settings. Values are immutable, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    heading: ClassVar[str]
    """Heading of the group's flags in the help."""


class ModelSettings(Group):
    """Settings of the network."""

    heading: ClassVar[str] = "Network"

    model: str = Field(
        "digits_cnn",
        description="Network: digits_cnn, torchvision:NAME, timm:NAME, darknet:FILE.cfg or package.module:callable.",
    )
    weights: str | None = Field(None, description="File of weights: a torch archive, safetensors, .npz or Darknet's.")
    input: tuple[Count, Count, Count] | None = Field(
        None, description="Shape of one input, such as 3x224x224; the shape of the data by default."
    )


class DataSettings(Group):
    """Settings of the data, their splits and their preparation."""

    heading: ClassVar[str] = "Data"

    data: str = Field(
        "digits",
        description="Data: digits, shapes, cifar10:DIR, fashion_mnist:DIR, imagefolder:DIR, coco:DIR, text:DIR or "
        "package.module:callable.",
    )
    search_from: Literal["val", "train"] = Field("val", description="Part of the data that search images come from.")
    search_images: Count | None = Field(
        None, description="Images for the search: four fifths for the reward, one fifth to select the final policy."
    )
    report_images: Count | None = Field(None, description="Images for the final report.")
    calibration_images: Count = Field(512, description="Images for calibrating the quantizers.")
    split_seed: Seed = Field(0, description="Seed that draws the images of every split.")
    normalize: Normalization | None = Field(None, description="Normalization of images; the model's own by default.")
    resize: Count | None = Field(
        None, description="Shorter side of images, of detectors' inputs both sides, pixels; the model's own by default."
    )
    crop: Count | None = Field(None, description="Centre crop of images, pixels; the model's own by default.")
    eval_batch: Count = Field(256, description="Images in one forward pass.")


class DeviceSettings(Group):
    """Settings of the accelerator."""

    heading: ClassVar[str] = "Accelerator"

    hardware: str = Field("bismo-edge", description="Accelerator: a name (see haq hardware), a .toml or .csv file.")
    batch: Annotated[int, Field(strict=True, ge=1, le=MAX_BATCH)] | None = Field(
        None, description="Images that the accelerator processes at once; the device's own batch by default."
    )
    deploy: str | None = Field(
        None,
        description="Deployment target whose rules bits, quantizers and sizes follow: a name (see haq hardware "
        "targets) or a .toml file.",
    )


class BudgetSettings(Group):
    """Settings of the objective and its limits."""

    heading: ClassVar[str] = "Budget"

    objective: Objective = Field("latency", description="Cost that the budget limits.")
    budget: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("0.6",),
        description="Upper limit of a cost: 0.6 (of uniform 8 bits), 12ms, 250kB or 4bits (the cost of uniform 4 "
        "bits); repeatable for several costs, such as size=0.5.",
    )
    max_accuracy_drop: float | None = Field(
        None,
        description="Search for the least cost that loses at most so much accuracy, such as 0.5; replaces a budget.",
    )
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None = Field(
        None, description="Confidence that --max-accuracy-drop is kept on new images, such as 0.95."
    )

    @property
    def budgets(self) -> tuple[BudgetSpec, ...]:
        """The parsed budgets, that of the objective first."""
        return parse_budgets(self.budget, self.objective)

    @field_validator("max_accuracy_drop")
    @classmethod
    def _drop_is_in_points(cls, points: float | None) -> float | None:
        if points is not None and not 0 <= points < 100:
            raise ValueError("write points of accuracy from 0 to below 100, such as 0.5")
        return points


class BitSettings(Group):
    """Settings of the allowed bits."""

    heading: ClassVar[str] = "Bits"

    min_bits: Width = Field(2, description="Smallest width.")
    max_bits: Width = Field(8, description="Largest width.")
    first_last_bits: Width | None = Field(
        8, description="Width of the first and the last layer, or free to search them too."
    )
    pin: dict[str, Width] = Field(default_factory=dict, description="Fixed width of a layer; repeatable.")
    a_bits: Width = Field(8, description="Width of all activations under the size objective.")

    @field_validator("max_bits")
    @classmethod
    def _range_is_not_empty(cls, max_bits: int, info: Any) -> int:
        min_bits = info.data.get("min_bits")
        if min_bits is not None and max_bits < min_bits:
            raise ValueError(f"must be at least min_bits, which is {min_bits}")
        return max_bits


class QuantizerSettings(Group):
    """Settings of the quantizers and of the engine that runs the quantized network."""

    heading: ClassVar[str] = "Quantizers and engine"

    quantizer: QuantizerName = Field("linear", description="Weight quantizer: integers, or k-means codebooks.")
    calibration: Literal["auto"] | CalibrationMethod = Field("auto", description="Calibration of clipping ranges.")
    zero_points: ZeroPoints = Field(
        "auto", description="Zero points of activations: where they reduce the error, or none."
    )
    rounding: Literal["auto"] | Rounding = Field(
        "auto", description="Rounding of weights: nearest, or GPTQ; auto is gptq where it applies."
    )
    corrections: Literal["auto", "none"] = Field(
        "auto",
        description="Correction of batch norms, and of scales and biases of other outputs, for every policy, or none.",
    )
    engine: EngineName = Field(
        "auto", description="Runtime of the quantized network; auto is the faster one whose outputs agree with torch."
    )
    device: DeviceName = Field("cpu", description="Device that torch runs on.")


class SearchSettings(Group):
    """Settings of the search method, its prior and its reward."""

    heading: ClassVar[str] = "Search"

    agent: Annotated[str, AfterValidator(_known_method)] = Field("ddpg", description="Search method.")
    episodes: Count = Field(300, description="Number of policies to try.")
    proposals: Annotated[int, Field(strict=True, ge=1, le=MAX_PROPOSALS)] = Field(
        1,
        description="Policies proposed at a time, before the score of any of them is known, and evaluated by up to as "
        "many --workers.",
    )
    seed: Seed = Field(0, description="Random seed.")
    prior: PriorName = Field(
        "fisher",
        description="Estimate of each layer's loss before the search: fisher takes one backward pass, measured "
        f"evaluates every width; not used by {' and '.join(name for name in METHODS if not METHODS[name].uses_prior)}.",
    )
    reward: RewardKind = Field("fidelity", description="Reward: accuracy, or closeness to the float outputs.")
    observation: ObservationKind = Field("haq", description="Observation: the ten numbers of the paper, or more.")
    budget_rule: BudgetRule = Field(
        "cost-aware", description="Rule that brings a policy under the budget: cost-aware, or that of the paper."
    )
    episode_finetune_steps: Annotated[int, Field(strict=True, ge=0, le=10**6)] = Field(
        0, description="Fine-tuning steps of every policy before it is evaluated."
    )
    episode_finetune: Literal["all", "quantizers"] = Field(
        "all", description="Parameters trained in these steps: all, or scales and shifts only."
    )


GROUPS: tuple[type[Group], ...] = (
    ModelSettings,
    DataSettings,
    DeviceSettings,
    BudgetSettings,
    BitSettings,
    QuantizerSettings,
    SearchSettings,
)


def settings_of(*groups: type[Group]) -> tuple[str, ...]:
    """List the names of the settings in groups.

    Args:
        groups: Groups of settings.

    Returns:
        The names, in order.
    """
    return tuple(name for group in groups for name in group.model_fields)


MODEL_SETTINGS = settings_of(ModelSettings)
DATA_SETTINGS = settings_of(DataSettings)
DEVICE_SETTINGS = settings_of(DeviceSettings)
QUANTIZER_SETTINGS = settings_of(QuantizerSettings)
_LEAVE_QUANTIZERS = ("input", "report_images", "eval_batch", "engine", "device")
DECIDE_QUANTIZERS = tuple(
    name for name in (*MODEL_SETTINGS, *DATA_SETTINGS, "deploy", *QUANTIZER_SETTINGS) if name not in _LEAVE_QUANTIZERS
)
"""Settings that quantizers and corrections depend on."""
