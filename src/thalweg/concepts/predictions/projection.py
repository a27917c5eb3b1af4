"""Project feature vectors to two dimensions, and measure how much of the neighborhoods is preserved.

PCA: Pearson 1901, doi:10.1080/14786440109462720. t-SNE: van der Maaten and Hinton 2008, JMLR 9. Trustworthiness: Venna
and Kaski 2001, doi:10.1007/3-540-44668-0_68. N examples, D features, R principal components, B a batch of examples.
"""

from __future__ import annotations

import numpy as np
import torch

#: t-SNE starts from this many principal components, because it is slow in many dimensions
PCA_COMPONENTS = 50
_BATCH_SIZE = 500


def pca(x_ND: np.ndarray, num_components: int = 2) -> tuple[np.ndarray, list[float]]:
    """Return the coordinates (N, num_components) along the principal components, and their fractions of the variance.

    Missing components are 0. The sign of a component makes its largest entry positive.
    """
    centered_ND = np.asarray(x_ND, np.float64) - np.mean(x_ND, 0, dtype=np.float64)
    left_NR, singular_R, components_RD = np.linalg.svd(centered_ND, full_matrices=False)
    largest_R = np.abs(components_RD).argmax(1)
    sign_R = np.sign(components_RD[np.arange(len(singular_R)), largest_R])
    coordinates_NR = left_NR * singular_R * np.where(sign_R == 0, 1, sign_R)
    fraction_R = singular_R**2 / max(float(np.sum(singular_R**2)), 1e-300)
    missing = max(0, num_components - len(singular_R))
    coordinates = np.pad(coordinates_NR[:, :num_components], ((0, 0), (0, missing)))
    fractions = np.pad(fraction_R[:num_components], (0, missing))
    return coordinates, fractions.tolist()


def tsne(x_ND: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Return the t-SNE coordinates (N, 2). Neighbors stay together; distances between clusters mean nothing.

    Args:
        x_ND: Feature vectors.
        perplexity: Approximate number of neighbors that count; reduced to a third of the examples.
        seed: Seed of the optimization.

    Returns:
        The coordinates.
    """
    from sklearn.manifold import TSNE

    reduced_NR, _ = pca(x_ND, min(PCA_COMPONENTS, *x_ND.shape))
    perplexity = min(perplexity, max(1.0, (len(x_ND) - 1) / 3))
    init = "random" if reduced_NR.shape[1] < 2 else "pca"
    model = TSNE(2, perplexity=perplexity, init=init, random_state=seed)
    return model.fit_transform(reduced_NR).astype(np.float64)


def trustworthiness(x_ND: np.ndarray, y_N2: np.ndarray, neighbors: int) -> float:
    """Measure whether the nearest neighbors in two dimensions are near in D dimensions: 1 if all of them are.

    A false neighbor counts by its rank in D dimensions beyond the `neighbors` nearest.

    Args:
        x_ND: Feature vectors.
        y_N2: Their projections.
        neighbors: Number of neighbors; less than N / 2.

    Returns:
        The trustworthiness, 0 to 1.
    """
    count = len(x_ND)
    x = torch.from_numpy(np.ascontiguousarray(x_ND, np.float64))
    y = torch.from_numpy(np.ascontiguousarray(y_N2, np.float64))
    excess_ranks = 0
    for start in range(0, count, _BATCH_SIZE):
        index_B = torch.arange(start, min(start + _BATCH_SIZE, count))
        x_distance_BN = torch.cdist(x[index_B], x)
        y_distance_BN = torch.cdist(y[index_B], y)
        # an example comes first in D dimensions, and is not its own neighbor in two
        x_distance_BN[index_B - start, index_B] = -1
        y_distance_BN[index_B - start, index_B] = torch.inf
        order_BN = x_distance_BN.argsort(dim=1, stable=True)
        rank_BN = torch.empty_like(order_BN)
        rank_BN.scatter_(1, order_BN, torch.arange(count).expand(len(index_B), -1))
        nearest_Bk = y_distance_BN.argsort(dim=1, stable=True)[:, :neighbors]
        excess_ranks += int((rank_BN.gather(1, nearest_Bk) - neighbors).clamp(min=0).sum())
    return 1 - 2 * excess_ranks / (count * neighbors * (2 * count - 3 * neighbors - 1))
