"""A policy as a folder that vouches for itself: what is exported, registered, packaged and served."""

import hashlib
import json
import os
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import onnxruntime as ort
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recloop.features import FeatureSpec
from recloop.policy.sampling import Observation, Sampler
from recloop.schema import Item

FILES = ("scorer.onnx", "spec.json", "items.json")
INPUTS = ("profile", "context", "history")


class ArtefactError(ValueError):
    """The folder is not the policy that its manifest describes; the message names the file."""


class Manifest(BaseModel):
    """What the folder holds, and how it is served."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal[1] = 1
    algorithm: str
    n_items: Annotated[int, Field(ge=1)]
    slate: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(gt=0)]
    exploration: Annotated[float, Field(ge=0, le=1)]
    files: dict[str, str]

    @cached_property
    def digest(self) -> str:
        """sha256 of the manifest: the identity of the policy, since it covers every file."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def name(self) -> str:
        """Short name, as it stands in impressions."""
        return f"{self.algorithm}-{self.digest[:10]}"


class Policy:
    """A policy that was loaded and checked; scores by ONNX Runtime.

    Attributes:
        manifest: what the folder holds.
        spec: how observations are made.
        items: the catalogue, in index order.
        popular: item ids by popularity, most first.
        sampler: how slates are drawn.
    """

    def __init__(
        self, manifest: Manifest, spec: FeatureSpec, items: list[Item], popular: list[str], model: bytes
    ):
        self.manifest, self.spec, self.items, self.popular = manifest, spec, items, popular
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        sold_out = np.array([not item.available for item in items])
        self.sampler = Sampler(self.scores, manifest.temperature, manifest.exploration, sold_out)

    def scores(self, observation: Observation) -> np.ndarray:
        """float32 (B, N): the value that the policy expects of each item."""
        return self._session.run(["scores"], {name: observation[name] for name in INPUTS})[0]


def write_artefact(
    folder: Path,
    scorer: Path,
    spec: FeatureSpec,
    items: list[Item],
    popularity: np.ndarray,
    algorithm: str,
    slate: int,
    temperature: float,
    exploration: float,
) -> Manifest:
    """Write a policy's folder and load it once, so that what is broken never gets further.

    ``items`` in index order; ``popularity`` float (N,). The folder appears whole or not at all.

    Raises:
        ArtefactError: the parts do not fit each other.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        shutil.copyfile(scorer, work / "scorer.onnx")
        spec.save(work / "spec.json")
        ranked = [items[i].item_id for i in np.argsort(-popularity, kind="stable")]
        catalogue = {"items": [item.model_dump(mode="json") for item in items], "popular": ranked}
        (work / "items.json").write_text(json.dumps(catalogue, ensure_ascii=False) + "\n")
        manifest = Manifest(
            algorithm=algorithm,
            n_items=len(items),
            slate=slate,
            temperature=temperature,
            exploration=exploration,
            files={name: _sha256(work / name) for name in FILES},
        )
        (work / "manifest.json").write_text(manifest.model_dump_json(indent=1) + "\n")
        load(work)
        work.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def load(folder: Path) -> Policy:
    """Load a policy, refusing whatever its manifest does not vouch for.

    Raises:
        ArtefactError: a file is missing, extra, a link, altered, unreadable, or does not fit the
            others.
    """
    found = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    if set(found) != {"manifest.json", *FILES}:
        raise ArtefactError(f"{folder} must hold manifest.json, {', '.join(FILES)}; it holds {sorted(found)}")
    for name, path in found.items():
        if path.is_symlink() or not path.is_file():
            raise ArtefactError(f"{name} must be a plain file")
    try:
        manifest = Manifest.model_validate_json(found["manifest.json"].read_bytes())
    except ValidationError as error:
        raise ArtefactError(f"manifest.json cannot be used: {error}") from error
    for name in FILES:
        if manifest.files.get(name) != _sha256(found[name]):
            raise ArtefactError(
                f"{name} was altered: its sha256 is not the manifest's. Export the policy anew"
            )
    try:
        spec = FeatureSpec.load(found["spec.json"])
        catalogue = json.loads(found["items.json"].read_text())
        items = [Item(**item) for item in catalogue["items"]]
        policy = Policy(manifest, spec, items, list(catalogue["popular"]), found["scorer.onnx"].read_bytes())
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{folder} cannot be read: {error}") from error
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ArtefactError(f"scorer.onnx cannot be run: {error}") from error
    _probe(policy)
    return policy


def _probe(policy: Policy) -> None:
    if tuple(item.item_id for item in policy.items) != policy.spec.item_ids:
        raise ArtefactError("items.json and spec.json name different items")
    if set(policy.popular) != set(policy.spec.item_ids):
        raise ArtefactError("items.json: popular does not name each item once")
    try:
        scores = policy.scores(policy.spec.observation(None, [], "", 0))
    except Exception as error:  # as above
        raise ArtefactError(f"scorer.onnx does not take what spec.json describes: {error}") from error
    if scores.shape != (1, policy.manifest.n_items) or not np.isfinite(scores).all():
        raise ArtefactError(f"scorer.onnx gives {scores.shape} scores, or some that are not finite")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
