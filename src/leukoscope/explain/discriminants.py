import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from leukoscope.differential.novelty import Reference


def discriminant_plane(reference: Reference, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the cells that a head learned from ``(m, 2)``, and of others ``(n, 2)``, in the plane that parts them.

    Its axes are the first two linear discriminants of the reference, or the only one and the first principal component
    where there are two classes. They depend on the classifier alone, so that every sample lies on the same map.

    Args:
        reference: of the classifier, of two classes at least.
        x: features of other cells ``(n, D)``.
    """
    axes = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(reference.x, reference.y)
    known, new = axes.transform(reference.x)[:, :2], axes.transform(x)[:, :2]
    if known.shape[1] < 2:
        spread = PCA(n_components=1, random_state=0).fit(reference.x)
        known, new = np.hstack([known, spread.transform(reference.x)]), np.hstack([new, spread.transform(x)])
    return known, new
