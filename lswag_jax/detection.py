"""Detection on a grid of patches: the loss, boxes from outputs, mean average precision.

A network puts out C + 4 numbers for each patch of an image: logits of C classes and four offsets of
a box. A box is its top, left, bottom and right in shares of the image's height and width, the order
of TensorFlow Datasets; m is its middle and z its size, each down and across. With c the middle of a
patch and s the size of one, the offsets are those of Faster R-CNN (Ren et al., NeurIPS 2015), the
patch being the only anchor:

    t = ((m - c) / s, log(z / s))

A patch belongs to the box whose middle is near, to the smallest of several, else to none (FCOS's
centre sampling, Tian et al., ICCV 2019); the patch under a box's middle always counts as near:

    |m - c| <= max(z / 4, s / 2)    down and across

The loss of a sample, P of whose patches belong to a box, is RetinaNet's (Lin et al., ICCV 2017),
with y = 1 for the class of a patch's box, else 0, and smooth L1 of Fast R-CNN (Girshick, 2015):

    loss = (sum_patches sum_classes F + sum_(patches with a box) sum_offsets H(t' - t)) / max(P, 1)
    F = -(1 - p)^2 log(p) / 4       where y = 1,  p = sigmoid(logit - log 99)
    F = -3 p^2 log(1 - p) / 4       where y = 0
    H(x) = x^2 / 2 where |x| < 1, else |x| - 1 / 2

RetinaNet's last bias starts at -log 99, so that a class has the probability 1 % before training;
here that number is added to the logits instead, which trains alike.
"""

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.extras import extra
from lswag_jax.options import Share, typed

Array = jax.Array
_PRIOR = -math.log(99)  # logit of 1 %


def assign(boxes_BxKx5: Array, grid: Sequence[int]) -> tuple[Array, Array]:
    """The class and the offsets that each patch is to predict.

    Args:
        boxes_BxKx5: class, top, left, bottom and right of each object; the class of what only fills
            the array up is -1.
        grid: patches down and across.

    Returns:
        Classes [B, N] of the N patches row by row, -1 for those of no box, and offsets [B, N, 4].

    Example:
        >>> classes, offsets = assign(jnp.array([[[7, 0, 0, 0.5, 0.5]]]), (2, 2))
        >>> classes.tolist(), offsets[0, 0].tolist()
        ([[7, -1, -1, -1]], [0.0, 0.0, 0.0, 0.0])
    """
    centre_Nx2, patch_2 = _patches(grid, boxes_BxKx5.dtype)
    low_BxKx2, high_BxKx2 = boxes_BxKx5[..., 1:3], boxes_BxKx5[..., 3:]
    middle_BxKx2, size_BxKx2 = (low_BxKx2 + high_BxKx2) / 2, high_BxKx2 - low_BxKx2
    away_BxKxNx2 = jnp.abs(middle_BxKx2[:, :, None] - centre_Nx2[None, None])
    reach_BxKx2 = jnp.maximum(size_BxKx2 / 4, patch_2[None, None] / 2)
    near_BxKxN = (away_BxKxNx2 <= reach_BxKx2[:, :, None]).all(-1)
    near_BxKxN &= boxes_BxKx5[..., :1] >= 0
    area_BxKxN = jnp.where(near_BxKxN, size_BxKx2.prod(-1, keepdims=True), jnp.inf)
    own_BxNx1 = area_BxKxN.argmin(1)[..., None]
    is_object_BxNx1 = near_BxKxN.any(1)[..., None]

    def of_patch(values_BxKxD: Array, otherwise: float) -> Array:
        return jnp.where(
            is_object_BxNx1, jnp.take_along_axis(values_BxKxD, own_BxNx1, axis=1), otherwise
        )

    classes_BxN = of_patch(boxes_BxKx5[..., :1], -1)[..., 0].astype(jnp.int32)
    shift_BxNx2 = (of_patch(middle_BxKx2, 0) - centre_Nx2[None]) / patch_2[None, None]
    stretch_BxNx2 = jnp.log(of_patch(size_BxKx2, 1) / patch_2[None, None])
    return classes_BxN, jnp.concatenate([shift_BxNx2, stretch_BxNx2], axis=-1)


def _patches(grid: Sequence[int], dtype: Any) -> tuple[Array, Array]:
    """Middles [N, 2] of patches row by row, and the size [2] of one, in shares of the image."""
    sides = [(jnp.arange(n, dtype=dtype) + 0.5) / n for n in grid]
    centres = jnp.stack(jnp.meshgrid(*sides, indexing="ij"), axis=-1)
    return centres.reshape(-1, 2), 1 / jnp.array(grid, dtype)


def loss(outputs_BxHxWxD: Array, boxes_BxKx5: Array) -> Array:
    """The loss of each sample [B], see above.

    Args:
        outputs_BxHxWxD: class logits and four offsets of each patch, D = C + 4.
        boxes_BxKx5: as `assign` takes them.
    """
    b, *grid, d = outputs_BxHxWxD.shape
    outputs_BxNxD = outputs_BxHxWxD.reshape(b, -1, d)
    classes_BxN, offsets_BxNx4 = assign(boxes_BxKx5.astype(outputs_BxNxD.dtype), grid)
    logits_BxNxC = outputs_BxNxD[..., :-4] + _PRIOR
    is_class_BxNxC = jax.nn.one_hot(classes_BxN, d - 4, dtype=bool)
    right_BxNxC = jnp.where(is_class_BxNxC, logits_BxNxC, -logits_BxNxC)
    focal_BxNxC = -jnp.square(jax.nn.sigmoid(-right_BxNxC)) * jax.nn.log_sigmoid(right_BxNxC)
    focal_BxNxC *= jnp.where(is_class_BxNxC, 0.25, 0.75)
    error_BxNx4 = jnp.abs(outputs_BxNxD[..., -4:] - offsets_BxNx4)
    smooth_BxNx4 = jnp.where(error_BxNx4 < 1, jnp.square(error_BxNx4) / 2, error_BxNx4 - 0.5)
    is_object_BxN = classes_BxN >= 0
    boxes_B = jnp.where(is_object_BxN, smooth_BxNx4.sum(-1), 0).sum(-1)
    return (focal_BxNxC.sum((1, 2)) + boxes_B) / jnp.maximum(is_object_BxN.sum(-1), 1)


def check(boxes: Any, num_images: int, num_classes: int) -> Array:
    """Boxes [B, K, 5] as `assign` takes them, checked.

    Raises:
        ValueError: one sentence that says what is wrong and what is allowed.
    """
    boxes = np.asarray(boxes)
    is_shaped = boxes.ndim == 3 and boxes.shape[::2] == (num_images, 5) and boxes.shape[1]
    if not is_shaped or not np.issubdtype(boxes.dtype, np.floating):
        raise ValueError(
            f"labels of detection must be floats of shape ({num_images}, K, 5), got {boxes.dtype} "
            f"of shape {boxes.shape}."
        )
    classes_BxK = boxes[..., 0]
    bad = ~np.isin(classes_BxK, np.arange(-1, num_classes))
    if bad.any():
        raise ValueError(
            f"classes of detection must be whole numbers in [0, {num_classes}), or -1 for no "
            f"object, got {classes_BxK[bad][0]}."
        )
    low, high = boxes[..., 1:3], boxes[..., 3:]
    bad = (classes_BxK >= 0) & ~((low >= 0) & (low < high) & (high <= 1)).all(-1)
    if bad.any():
        raise ValueError(
            "boxes of detection must be top < bottom and left < right in [0, 1], got top, left, "
            f"bottom and right {boxes[bad][0, 1:].tolist()}."
        )
    return jnp.asarray(boxes)


class Detections(NamedTuple):
    """What a network found in B images, a box for each of N patches.

    Attributes:
        boxes: top, left, bottom and right [B, N, 4], in shares of the image.
        classes: [B, N], from 0.
        scores: probabilities [B, N]; 0 for a box that a better one of its class covers.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


@typed
def detect(outputs: Any, overlap: Share = 0.5) -> Detections:
    """Boxes of a network's outputs, each patch's most probable class, after greedy suppression.

    Args:
        outputs: [B, H, W, C + 4], see above.
        overlap: intersection over union above which the less probable of two boxes of a class is
            dropped. The intersections take B N^2 numbers: pass a few hundred images at once.

    Example:
        >>> outputs = np.zeros((1, 2, 2, 3 + 4))
        >>> outputs[0, 0, 1, 2] = 9  # class 2 in the patch at the top right
        >>> found = detect(outputs)
        >>> found.classes[0, 1], found.boxes[0, 1].tolist()
        (np.int64(2), [0.0, 0.5, 0.5, 1.0])
    """
    outputs = np.asarray(outputs)
    b, *grid, d = outputs.shape
    outputs_BxNxD = outputs.reshape(b, -1, d)
    centre_Nx2, patch_2 = map(np.asarray, _patches(grid, jnp.float32))
    middle_BxNx2 = centre_Nx2 + patch_2 * outputs_BxNxD[..., -4:-2]
    half_BxNx2 = patch_2 * np.exp(np.minimum(outputs_BxNxD[..., -2:], 50)) / 2
    corners = np.concatenate([middle_BxNx2 - half_BxNx2, middle_BxNx2 + half_BxNx2], axis=-1)
    boxes_BxNx4 = np.clip(corners, 0, 1)
    classes_BxN = outputs_BxNxD[..., :-4].argmax(-1)
    logits_BxN = outputs_BxNxD[..., :-4].max(-1).astype(np.float64) + _PRIOR
    scores_BxN = 1 / (1 + np.exp(-np.clip(logits_BxN, -50, 50)))
    order_BxN = np.argsort(-scores_BxN, axis=1, kind="stable")
    kept_BxN = _not_covered(
        np.take_along_axis(boxes_BxNx4, order_BxN[..., None], 1),
        np.take_along_axis(classes_BxN, order_BxN, 1),
        overlap,
    )
    kept_BxN = np.take_along_axis(kept_BxN, np.argsort(order_BxN, axis=1), 1)
    return Detections(boxes_BxNx4, classes_BxN, np.where(kept_BxN, scores_BxN, 0))


def _not_covered(boxes_BxNx4: np.ndarray, classes_BxN: np.ndarray, overlap: float) -> np.ndarray:
    """Which boxes [B, N], the best first, stay where each drops the later ones that it covers."""
    covers_BxNxN = intersection_over_union(boxes_BxNx4[:, :, None], boxes_BxNx4[:, None]) > overlap
    covers_BxNxN &= classes_BxN[:, :, None] == classes_BxN[:, None]
    covers_BxNxN &= np.triu(np.ones(covers_BxNxN.shape[1:], bool), 1)
    kept_BxN = np.ones(classes_BxN.shape, bool)
    for i in range(classes_BxN.shape[1]):
        kept_BxN &= ~(kept_BxN[:, i, None] & covers_BxNxN[:, i])
    return kept_BxN


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area that two boxes [..., 4] share over the area that they cover; 0 for empty ones.

    Example:
        >>> float(intersection_over_union(np.array([0, 0, 2, 2.0]), np.array([0, 1, 2, 3.0])))
        0.3333333333333333
    """

    def area(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.maximum(high - low, 0).prod(-1)

    shared = area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    covered = area(a[..., :2], a[..., 2:]) + area(b[..., :2], b[..., 2:]) - shared
    return shared / np.maximum(covered, np.finfo(covered.dtype).tiny)


@typed
def average_precision(found: Detections, boxes: Any) -> dict[str, float]:
    """COCO's mean average precision, by pycocotools.

    Args:
        found: of B images.
        boxes: of the objects present [B, K, 5], as `assign` takes them.

    Returns:
        `map`, the mean over thresholds of the intersection over union from .5 to .95 and over the
        classes present, and `map50`, at .5 alone; -1 where there is no object.

    Raises:
        ModuleNotFoundError: pycocotools is missing (the extra "detection").
    """
    with extra("detection"):
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

    boxes_BxKx5 = np.asarray(boxes, float)
    truth: Any = COCO()  # whose types want what it does not read
    image_M, k_M = np.nonzero(boxes_BxKx5[..., 0] >= 0)
    objects = zip(image_M.tolist(), boxes_BxKx5[image_M, k_M], strict=True)
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(boxes_BxKx5))],
        "categories": [{"id": c} for c in np.unique(boxes_BxKx5[image_M, k_M, 0]).tolist()],
        "annotations": [
            # An id of 0 stands for no object.
            {"id": n, "image_id": i, "category_id": box[0], "iscrowd": 0}
            | {"bbox": _corner_and_size(box[1:]).tolist(), "area": (box[3:] - box[1:3]).prod()}
            for n, (i, box) in enumerate(objects, 1)
        ],
    }
    image_M, n_M = np.nonzero(found.scores > 0)
    columns = (image_M, _corner_and_size(found.boxes[image_M, n_M]), found.scores[image_M, n_M])
    results = np.column_stack([*columns, found.classes[image_M, n_M]])
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results) if len(results) else COCO(), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"map": float(evaluation.stats[0]), "map50": float(evaluation.stats[1])}


def _corner_and_size(boxes: np.ndarray) -> np.ndarray:
    """Left, top, width and height of boxes [..., 4], as COCO has them."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([low[..., ::-1], (high - low)[..., ::-1]], axis=-1)
