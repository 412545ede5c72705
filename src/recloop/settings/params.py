"""params.yaml as a typed object; an unknown or wrong entry is named, never ignored."""

import io
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from recloop.settings.places import Places

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ParamsError(ValueError):
    """params.yaml cannot be read or holds an entry that is not known or not allowed."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MarketParams(Section):
    users: Positive
    items: Annotated[int, Field(ge=2)]
    topics: Positive
    horizon: Positive
    slate: Positive
    behaviour_temperature: PositiveFloat


class RewardParams(Section):
    view: float
    click: float
    cart: float
    purchase: float
    dismiss: float
    rating_positive: float


class QualityParams(Section):
    tolerated_share: Share


class IntegrationParams(Section):
    people: tuple[tuple[str, ...], ...] = (("external_id",), ("email",), ("phone",))
    items: tuple[tuple[str, ...], ...] = (("external_id",), ("title", "seller"))
    calling_code: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,2}$")] = "82"
    most: Annotated[int, Field(ge=2)] = 20


class TargetEncodingParams(Section):
    columns: tuple[str, ...] = ()
    folds: Annotated[int, Field(ge=2)] = 5
    smoothing: PositiveFloat = 50.0


class TextParams(Section):
    columns: Annotated[int, Field(ge=0)] = 0
    components: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _directions_among_columns(self) -> Self:
        if self.components > self.columns:
            raise ValueError(
                f"components, {self.components}, are directions among the hashed columns, of which there are"
                f" {self.columns}: raise columns, or take fewer components"
            )
        return self


class SelectionParams(Section):
    variance: Share = 0.0
    information: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class FeatureParams(Section):
    history: Positive
    session_gap_minutes: PositiveFloat
    test_share: Annotated[float, Field(gt=0, lt=1)]
    num_workers: Annotated[int, Field(ge=0)] = 0
    ages: tuple[int, int] = (0, 120)
    farthest: PositiveFloat = 10.0
    one_hot: Positive = 24
    target_encoding: TargetEncodingParams = TargetEncodingParams()
    text: TextParams = TextParams()
    behaviour: Annotated[int, Field(ge=0)] = 0
    selection: SelectionParams = SelectionParams()

    @model_validator(mode="after")
    def _some_age_is_known(self) -> Self:
        if self.ages[0] > self.ages[1]:
            raise ValueError(f"ages are the least and the greatest that count, not {list(self.ages)}")
        return self


class UserModelParams(Section):
    dim: Positive
    epochs: Positive
    batch: Positive
    learning_rate: PositiveFloat
    weight_clip: Annotated[float, Field(ge=1, allow_inf_nan=False)]


class NetworkParams(Section):
    dim: Positive
    hidden: Positive
    history: Literal["pool", "gru", "attention"]
    full_catalogue: Positive
    candidates: Positive


class ValueParams(Section):
    replay_capacity: Positive
    updates_per_step: Positive
    target_update_every: Positive
    n_step: Positive
    priority_exponent: Share
    epsilon_start: Share
    epsilon_end: Share
    epsilon_decay_share: Share


class GradientParams(Section):
    rollout: Positive
    epochs: Positive
    minibatch: Positive
    gae_lambda: Share
    clip: PositiveFloat
    entropy: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    value_share: PositiveFloat


class LogsParams(Section):
    advantage_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    weight_cap: PositiveFloat
    conservatism: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    expectile: Annotated[float, Field(ge=0.5, lt=1)]


class BanditParams(Section):
    width: PositiveFloat


class EnsembleParams(Section):
    members: Positive
    combine: Literal["mean", "vote", "penalised"]
    penalty: Annotated[float, Field(ge=0, allow_inf_nan=False)]


AlgorithmName = Literal[
    "q_learning",
    "dqn",
    "slateq",
    "ensemble",
    "reinforce",
    "a2c",
    "ppo",
    "impala",
    "bc",
    "marwil",
    "top_k_reinforce",
    "cql",
    "iql",
    "lin_ucb",
    "thompson",
    "logistic",
]


class AgentParams(Section):
    algorithm: AlgorithmName
    gamma: Annotated[float, Field(ge=0, lt=1)]
    slate: Positive
    env_steps: Positive
    users_at_once: Positive
    learning_rate: PositiveFloat
    train_batch: Positive
    network: NetworkParams
    value: ValueParams
    gradient: GradientParams
    logs: LogsParams
    bandit: BanditParams
    ensemble: EnsembleParams
    num_env_runners: Annotated[int, Field(ge=0)]
    num_learners: Annotated[int, Field(ge=0)]
    num_gpus_per_learner: Annotated[float, Field(ge=0)] | Literal["auto"]
    market_device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _one_gpu_one_market(self) -> Self:
        if self.market_device == "cuda" and self.num_env_runners:
            raise ValueError(
                "market_device cuda steps everyone in the learner's process: set num_env_runners to 0"
            )
        return self


class ServingParams(Section):
    slate: Positive
    temperature: PositiveFloat
    exploration: Share
    propensity_floor: Share
    exact_items: Positive
    candidates: Positive

    @model_validator(mode="after")
    def _room_for_a_slate(self) -> Self:
        if self.candidates < self.slate:
            raise ValueError(f"candidates must be at least slate, {self.slate}")
        return self


class EvaluationParams(Section):
    users: Positive
    bootstrap: Positive
    minimum_effective_sample: PositiveFloat


class DeliveryParams(Section):
    shadow_share: Share = 0.0
    shadow_requests: Annotated[int, Field(ge=0)] = 0
    canary_steps: tuple[Share, ...] = ()
    step_requests: Positive = 1
    bake_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    step_seconds: PositiveFloat = 3600.0
    canary_share: Share
    canary_requests: Positive
    non_inferiority_margin: Share
    guardrails: tuple[str, ...] = ()
    max_error_rate: Share
    max_p99_ms: PositiveFloat
    max_shift: PositiveFloat = 2.0
    ab_share: Share = 0.0
    ab_metric: str = "reward_per_request"
    ab_effect: PositiveFloat = 0.05
    ab_looks: Annotated[int, Field(ge=1, le=50)] = 5
    ab_seconds: PositiveFloat = 1_209_600.0
    keep_warm_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3600.0

    @property
    def shares(self) -> tuple[float, ...]:
        """Of all steps, the one that decides included."""
        return (*self.canary_steps, self.canary_share)

    @model_validator(mode="after")
    def _shares_grow(self) -> Self:
        if any(now >= then for now, then in pairwise(self.shares)):
            raise ValueError(f"canary_steps must grow and stay below canary_share, not {list(self.shares)}")
        if self.shadow_requests and not self.shadow_share:
            raise ValueError(
                "shadow_requests never come with a shadow_share of 0: raise it, or set both to 0"
            )
        if self.ab_share and not self.canary_share < self.ab_share < 1:
            raise ValueError(
                f"ab_share must be above canary_share, {self.canary_share}, and below 1, not {self.ab_share}"
            )
        return self


class TermsParams(Section):
    service: Positive
    personalisation: Positive
    training: Positive
    marketing: Positive


class KeepDaysParams(Section):
    log: Positive
    withdrawn: Positive
    quarantine: Positive
    accesses: Positive
    backups: Positive


class PrivacyParams(Section):
    terms: TermsParams
    withdrawal_minutes: Annotated[int, Field(ge=0)]
    keep_days: KeepDaysParams


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone such as Asia/Seoul or UTC") from error
    return name


class WatchParams(Section):
    availability: Annotated[float, Field(gt=0, lt=1)] = 0.995
    in_time: Annotated[float, Field(gt=0, lt=1)] = 0.99
    retrain_hours: PositiveFloat = 20.0
    zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"


class Params(Section):
    seed: int
    market: MarketParams
    reward: RewardParams
    quality: QualityParams
    integration: IntegrationParams = IntegrationParams()
    features: FeatureParams
    user_model: UserModelParams
    agent: AgentParams
    serving: ServingParams
    evaluation: EvaluationParams
    delivery: DeliveryParams
    privacy: PrivacyParams
    watch: WatchParams = WatchParams()


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and check params.yaml; where RECLOOP_TERMS is set, it stands before ``privacy.terms``.

    Raises:
        ParamsError: the file is missing, is not YAML, or has an entry that is unknown, missing or
            outside its range; the message names the entry.
    """
    file = Path(path)
    try:
        raw = YAML(typ="safe").load(file)
    except FileNotFoundError as error:
        raise ParamsError(
            f"{file} is missing: run from the project's root, or restore it with git"
        ) from error
    except YAMLError as error:
        raise ParamsError(f"{file} is not valid YAML: {error}") from error
    try:
        params = Params.model_validate(raw)
        terms = TermsParams.model_validate(params.privacy.terms.model_dump() | Places().terms)  # type: ignore[call-arg]
        return params.model_copy(update={"privacy": params.privacy.model_copy(update={"terms": terms})})
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
        raise ParamsError(f"{file} has entries that cannot be used:\n" + "\n".join(lines)) from error


def proposed(text: str, changes: dict[str, Any]) -> str:
    """params.yaml with these dotted names of ``agent`` changed; comments stay."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    content = yaml.load(text)
    for name, value in changes.items():
        *path, last = name.split(".")
        section = content["agent"]
        for part in path:
            section = section[part]
        if section[last] != value:
            section[last] = float(f"{value:.4g}") if isinstance(value, float) else value
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()
