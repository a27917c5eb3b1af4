"""Many numbers of each example brought to two, so that they can be drawn, and how far to trust the drawing.

Principal components: Pearson 1901, doi:10.1080/14786440109462720. t-SNE: van der Maaten and Hinton 2008, JMLR 9.
Trustworthiness: Venna and Kaski 2001, doi:10.1007/3-540-44668-0_68. N examples, D numbers of each.
"""

from __future__ import annotations

import numpy as np
import torch

#: principal components that t-SNE begins with; it is slow in many dimensions
PCA_COMPONENTS = 50


def pca(x_ND: np.ndarray, count: int = 2) -> tuple[np.ndarray, list[float]]:
    """Coordinates (N, count) along the directions in which the examples differ most, and each one's share of variance.

    What there is no further direction for is 0. Signs are chosen so that the largest entry of a direction is positive.
    """
    centred_ND = np.asarray(x_ND, np.float64) - np.mean(x_ND, 0, dtype=np.float64)
    left_NR, size_R, direction_RD = np.linalg.svd(centred_ND, full_matrices=False)
    largest_R = np.abs(direction_RD).argmax(1)
    sign_R = np.sign(direction_RD[np.arange(len(size_R)), largest_R])
    along_NR = left_NR * size_R * np.where(sign_R == 0, 1, sign_R)
    shares_R = size_R**2 / max(float(np.sum(size_R**2)), 1e-300)
    missing = max(0, count - len(size_R))
    found = np.pad(along_NR[:, :count], ((0, 0), (0, missing)))
    return found, [float(share) for share in np.pad(shares_R[:count], (0, missing))]


def tsne(x_ND: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Coordinates (N, 2) by t-SNE: neighbours stay neighbours, but distances between groups mean nothing.

    `perplexity` is about how many neighbours count; of few examples at most a third of them.
    """
    from sklearn.manifold import TSNE

    fewer_NR, _ = pca(x_ND, min(PCA_COMPONENTS, *x_ND.shape))
    perplexity = min(perplexity, max(1.0, (len(x_ND) - 1) / 3))
    made = TSNE(2, perplexity=perplexity, init="random" if fewer_NR.shape[1] < 2 else "pca", random_state=seed)
    return made.fit_transform(fewer_NR).astype(np.float64)


def trustworthiness(x_ND: np.ndarray, y_N2: np.ndarray, near: int) -> float:
    """From 0 to 1: whether the `near` nearest in the drawing are near in D dimensions too; 1 where all of them are.

    Each that is not counts by how far behind the `near` nearest it is in D dimensions. 2 * near < N.
    """
    count, far_off = len(x_ND), 0
    x, y = (torch.from_numpy(np.ascontiguousarray(of, np.float64)) for of in (x_ND, y_N2))
    for start in range(0, count, 500):
        own = torch.arange(start, min(start + 500, count))
        apart_BN, drawn_BN = torch.cdist(x[own], x), torch.cdist(y[own], y)
        apart_BN[own - start, own], drawn_BN[own - start, own] = -1, torch.inf
        rank_BN = torch.empty_like(apart_BN, dtype=torch.long)
        rank_BN.scatter_(1, apart_BN.argsort(dim=1, stable=True), torch.arange(count).expand(len(own), -1))
        nearest_Bk = drawn_BN.argsort(dim=1, stable=True)[:, :near]
        far_off += int((rank_BN.gather(1, nearest_Bk) - near).clamp(min=0).sum())
    return 1 - 2 * far_off / (count * near * (2 * count - 3 * near - 1))
