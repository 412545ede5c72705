"""A policy as a folder that vouches for itself: what is exported, registered, packaged and served."""

import hashlib
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
NOWHERE = f"{os.devnull}/none"  # cannot exist: a scorer may not read weights from other files


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
    files: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]

    @cached_property
    def digest(self) -> str:
        """sha256 of the manifest: the identity of the policy, since it covers every file."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def name(self) -> str:
        """Short name, as it stands in impressions."""
        return f"{self.algorithm}-{self.digest[:10]}"


class _Catalogue(BaseModel):
    """items.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    items: list[Item]
    popular: list[str]


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
        options.log_severity_level = 4  # failures are raised, not logged
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
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
    if popularity.shape != (len(items),):
        raise ArtefactError(f"{len(items)} items need as many popularities, not {popularity.shape}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        shutil.copyfile(scorer, work / "scorer.onnx")
        spec.save(work / "spec.json")
        ranked = [items[i].item_id for i in np.argsort(-popularity, kind="stable")]
        catalogue = _Catalogue(items=items, popular=ranked)
        (work / "items.json").write_text(catalogue.model_dump_json() + "\n")
        manifest = Manifest(
            algorithm=algorithm,
            n_items=len(items),
            slate=slate,
            temperature=temperature,
            exploration=exploration,
            files={name: hashlib.sha256((work / name).read_bytes()).hexdigest() for name in FILES},
        )
        (work / "manifest.json").write_text(manifest.model_dump_json(indent=1) + "\n")
        load(work)
        work.chmod(0o755)
        _put(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def _put(work: Path, folder: Path) -> None:
    """Move a finished folder to its place; whatever stood there before goes."""
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    try:
        if folder.is_dir():
            os.rename(folder, old / "was")
        os.rename(work, folder)
    finally:
        shutil.rmtree(old, ignore_errors=True)


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
    content = {name: path.read_bytes() for name, path in found.items()}
    try:
        manifest = Manifest.model_validate_json(content["manifest.json"])
    except ValidationError as error:
        raise ArtefactError(f"manifest.json cannot be used: {error}") from error
    if set(manifest.files) != set(FILES):
        raise ArtefactError(f"manifest.json must vouch for {', '.join(FILES)}, not {sorted(manifest.files)}")
    for name, expected in manifest.files.items():
        if expected != hashlib.sha256(content[name]).hexdigest():
            raise ArtefactError(
                f"{name} was altered: its sha256 is not the manifest's. Export the policy anew"
            )
    spec, items, popular = _described(content)
    if tuple(item.item_id for item in items) != spec.item_ids:
        raise ArtefactError("items.json and spec.json name different items")
    if manifest.n_items != len(items):
        raise ArtefactError(f"manifest.json counts {manifest.n_items} items, items.json holds {len(items)}")
    if sorted(popular) != sorted(spec.item_ids):
        raise ArtefactError("items.json: popular does not name each item once")
    try:
        policy = Policy(manifest, spec, items, popular, content["scorer.onnx"])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ArtefactError(f"scorer.onnx cannot be run: {error}") from error
    _probe(policy)
    return policy


def _described(content: dict[str, bytes]) -> tuple[FeatureSpec, list[Item], list[str]]:
    try:
        spec = FeatureSpec.model_validate_json(content["spec.json"])
    except ValidationError as error:
        raise ArtefactError(f"spec.json cannot be used: {error}") from error
    try:
        catalogue = _Catalogue.model_validate_json(content["items.json"])
    except ValidationError as error:
        raise ArtefactError(f"items.json cannot be used: {error}") from error
    return spec, catalogue.items, catalogue.popular


def _probe(policy: Policy) -> None:
    """Score two strangers, one of them with a full history."""
    spec = policy.spec
    some = [spec.item_ids[i % len(spec.item_ids)] for i in range(spec.history)]
    two = [spec.observation(None, past, "", 0) for past in ([], some)]
    try:
        scores = policy.scores({name: np.concatenate([one[name] for one in two]) for name in INPUTS})
    except Exception as error:  # as above
        raise ArtefactError(f"scorer.onnx does not take what spec.json describes: {error}") from error
    if scores.shape != (2, len(spec.item_ids)) or scores.dtype != np.float32:
        raise ArtefactError(
            f"scorer.onnx gives {scores.dtype} {scores.shape} for two people and {len(spec.item_ids)} items"
        )
    if not np.isfinite(scores).all():
        raise ArtefactError("scorer.onnx gives scores that are not finite: the training diverged")
