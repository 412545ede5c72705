"""A policy as a folder that vouches for itself: what is exported, registered, packaged and served."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import onnxruntime as ort
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recloop.features import FeatureSpec
from recloop.policy.retrieval import AT_ONCE, Lists, Observation, Retriever, build_lists
from recloop.policy.sampling import Sampler
from recloop.policy.shares import uniform_share
from recloop.schema import Item

FILES = ("scorer.onnx", "spec.json", "items.json")
LARGE = ("vectors.npy", "lists.npz")  # of a policy that looks for candidates
INPUTS = ("profile", "context", "history")
NOWHERE = f"{os.devnull}/none"  # cannot exist: a scorer may not read weights from other files


class ArtefactError(ValueError):
    """The folder is not the policy that its manifest describes; the message names the file."""


class Manifest(BaseModel):
    """What the folder holds, and how it is served; ``candidates`` is None where all items are scored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal[2] = 2
    algorithm: str
    n_items: Annotated[int, Field(ge=1)]
    slate: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(gt=0)]
    exploration: Annotated[float, Field(ge=0, le=1)]
    propensity_floor: Annotated[float, Field(ge=0, le=1)]
    candidates: Annotated[int, Field(ge=1)] | None
    files: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]

    @cached_property
    def digest(self) -> str:
        """sha256 of the manifest: the identity of the policy, since it covers every file."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def name(self) -> str:
        """Short name, as it stands in impressions."""
        return f"{self.algorithm}-{self.digest[:10]}"

    @property
    def parts(self) -> tuple[str, ...]:
        """The files that there must be beside the manifest."""
        return FILES if self.candidates is None else FILES + LARGE


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
        output_name: ``scores``, or ``query`` where there are candidates.
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: FeatureSpec,
        items: list[Item],
        popular: list[str],
        model: bytes,
        vectors: np.ndarray | None = None,
        lists: Lists | None = None,
    ):
        self.manifest, self.spec, self.items, self.popular = manifest, spec, items, popular
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # failures are raised, not logged
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._vectors, self._lists = vectors, lists
        self.output_name = "scores" if vectors is None else "query"
        self.sold_out = np.array([not item.available for item in items])
        retriever = None
        if vectors is not None and lists is not None and manifest.candidates is not None:
            retriever = Retriever(self.output, vectors, lists, manifest.candidates)
        self.sampler = Sampler(
            self.scores,
            manifest.temperature,
            manifest.exploration,
            np.array([not item.available for item in items]),
            manifest.propensity_floor,
            retriever,
        )

    def output(self, observation: Observation) -> np.ndarray:
        """float32, what scorer.onnx gives: scores (B, N), or queries (B, D) of a policy with candidates."""
        return self._session.run([self.output_name], {name: observation[name] for name in INPUTS})[0]

    def scores(self, observation: Observation) -> np.ndarray:
        """float32 (B, N): the value that the policy expects of each item."""
        found = self.output(observation)
        if self._vectors is None or self._lists is None:
            return found
        scores = np.empty((len(found), len(self._vectors)), np.float32)
        scores[:, self._lists.items] = found @ self._vectors.T
        return scores


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
    propensity_floor: float = 0.0,
    vectors: np.ndarray | None = None,
    candidates: int | None = None,
) -> Manifest:
    """Write a policy's folder and load it once, so that what is broken never gets further.

    ``items`` in index order; ``popularity`` float (N,). With float32 (N, D) ``vectors``, slates are drawn
    from so many ``candidates``, and ``scorer`` gives queries instead of scores. The folder appears whole
    or not at all.

    Raises:
        ArtefactError: the parts do not fit each other.
    """
    if popularity.shape != (len(items),):
        raise ArtefactError(f"{len(items)} items need as many popularities, not {popularity.shape}")
    if (vectors is None) != (candidates is None):
        raise ArtefactError("vectors and candidates are given both or not at all")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        shutil.copyfile(scorer, work / "scorer.onnx")
        spec.save(work / "spec.json")
        ranked = [items[i].item_id for i in np.argsort(-popularity, kind="stable")]
        catalogue = _Catalogue(items=items, popular=ranked)
        (work / "items.json").write_text(catalogue.model_dump_json() + "\n")
        parts: tuple[str, ...] = FILES
        if vectors is not None:
            parts += LARGE
            sold_out = np.array([not item.available for item in items])
            _searchable(vectors, sold_out)
            lists = build_lists(vectors, sold_out)
            np.save(work / "vectors.npy", vectors[lists.items], allow_pickle=False)
            (work / "lists.npz").write_bytes(lists.to_bytes())
        manifest = Manifest(
            algorithm=algorithm,
            n_items=len(items),
            slate=slate,
            temperature=temperature,
            exploration=exploration,
            propensity_floor=propensity_floor,
            candidates=candidates,
            files={name: _sha256(work / name) for name in parts},
        )
        (work / "manifest.json").write_text(manifest.model_dump_json(indent=1) + "\n")
        load(work)
        work.chmod(0o755)
        _put(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def _searchable(vectors: np.ndarray, sold_out: np.ndarray) -> None:
    """Refuse vectors among which nothing can be searched."""
    n_items = len(sold_out)
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != n_items or not vectors.shape[1]:
        raise ArtefactError(
            f"vectors.npy must be float32, one row for each of {n_items} items, not {vectors.dtype}"
            f" {vectors.shape}"
        )
    if sold_out.all():
        raise ArtefactError("no item is available, so that there is nothing to search: restock some first")
    for start in range(0, len(vectors), AT_ONCE):
        if not np.isfinite(vectors[start : start + AT_ONCE]).all():
            raise ArtefactError("vectors.npy holds numbers that are not finite: the training diverged")


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


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
    manifest = _vouched(folder)
    content = {name: (folder / name).read_bytes() for name in FILES}
    _require_unaltered(folder, manifest, content)
    spec, items, popular = _described(content)
    if tuple(item.item_id for item in items) != spec.item_ids:
        raise ArtefactError("items.json and spec.json name different items")
    if manifest.n_items != len(items):
        raise ArtefactError(f"manifest.json counts {manifest.n_items} items, items.json holds {len(items)}")
    if sorted(popular) != sorted(spec.item_ids):
        raise ArtefactError("items.json: popular does not name each item once")
    sold_out = np.array([not item.available for item in items])
    try:
        uniform_share(manifest.exploration, manifest.propensity_floor, len(items) - int(sold_out.sum()))
    except ValueError as error:
        raise ArtefactError(str(error)) from error
    vectors, lists = (None, None) if manifest.candidates is None else _search(folder, sold_out)
    try:
        policy = Policy(manifest, spec, items, popular, content["scorer.onnx"], vectors, lists)
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ArtefactError(f"scorer.onnx cannot be run: {error}") from error
    _probe(policy, len(items) if vectors is None else vectors.shape[1])
    return policy


def verify(folder: Path) -> Manifest:
    """The manifest of a folder whose files are what it says: what ``load`` finds without loading anything.

    Raises:
        ArtefactError: a file is missing, extra, a link, or altered.
    """
    manifest = _vouched(folder)
    _require_unaltered(folder, manifest, {})
    return manifest


def _require_unaltered(folder: Path, manifest: Manifest, content: Mapping[str, bytes]) -> None:
    """Refuse what is not as the manifest says; ``content``: files that were read already."""
    for name, expected in manifest.files.items():
        found = hashlib.sha256(content[name]).hexdigest() if name in content else _sha256(folder / name)
        if expected != found:
            raise ArtefactError(
                f"{name} was altered: its sha256 is not the manifest's. Export the policy anew"
            )


def _vouched(folder: Path) -> Manifest:
    """The manifest of a folder that holds what it names, and nothing else."""
    found = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    for name, path in found.items():
        if path.is_symlink() or not path.is_file():
            raise ArtefactError(f"{name} must be a plain file")
    if "manifest.json" not in found:
        raise ArtefactError(f"{folder} must hold manifest.json, {', '.join(FILES)}; it holds {sorted(found)}")
    try:
        manifest = Manifest.model_validate_json(found["manifest.json"].read_bytes())
    except ValidationError as error:
        raise ArtefactError(f"manifest.json cannot be used: {error}") from error
    parts = manifest.parts
    if set(found) != {"manifest.json", *parts}:
        raise ArtefactError(f"{folder} must hold manifest.json, {', '.join(parts)}; it holds {sorted(found)}")
    if set(manifest.files) != set(parts):
        raise ArtefactError(f"manifest.json must vouch for {', '.join(parts)}, not {sorted(manifest.files)}")
    return manifest


def _search(folder: Path, sold_out: np.ndarray) -> tuple[np.ndarray, Lists]:
    """float32 (N, D), mapped from the file, and the lists of its rows."""
    try:
        vectors = np.asarray(np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        raise ArtefactError(f"vectors.npy cannot be read: {error}") from error
    _searchable(vectors, sold_out)
    try:
        lists = Lists.from_bytes((folder / "lists.npz").read_bytes(), vectors.shape[1], sold_out)
        lists.check(vectors)
    except ValueError as error:
        raise ArtefactError(f"lists.npz cannot be used: {error}") from error
    return vectors, lists


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


def _probe(policy: Policy, width: int) -> None:
    """Ask about two strangers, one of them with a full history."""
    spec = policy.spec
    some = [spec.item_ids[i % len(spec.item_ids)] for i in range(spec.history)]
    two = [spec.observation(None, past, "", 0) for past in ([], some)]
    try:
        given = policy.output({name: np.concatenate([one[name] for one in two]) for name in INPUTS})
    except Exception as error:  # as above
        raise ArtefactError(f"scorer.onnx does not take what spec.json describes: {error}") from error
    if given.shape != (2, width) or given.dtype != np.float32:
        raise ArtefactError(
            f"scorer.onnx gives {given.dtype} {given.shape} for two people and {len(spec.item_ids)} items,"
            f" not float32 (2, {width})"
        )
    if not np.isfinite(given).all():
        raise ArtefactError("scorer.onnx gives scores that are not finite: the training diverged")
