"""Where uncertainty comes from, and what more real films would do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxrbench.report.effects import Effect, arm_label, learning_points
from cxrbench.report.sections import Section


def components_table(found: Sequence[Effect]) -> pd.DataFrame:
    """Standard deviations of the gain of each ranked arm, by source."""
    rows = []
    for effect in found:
        if effect.family != "main" or not effect.components:
            continue
        spread = {f"sd of {c.source}": float(np.sqrt(c.variance)) for c in effect.components}
        rows.append({"arm": arm_label(effect.trial, with_classifier=True), **spread})
    return pd.DataFrame(rows)


def curve_table(section: Section) -> pd.DataFrame:
    """AUROC on real films alone, by their number."""
    rows = []
    for classifier, points in learning_points(section).items():
        for films, scores in points.items():
            spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else float("nan")
            about = {"classifier": classifier, "films": films, "runs": len(scores)}
            rows.append({**about, "mean": float(np.mean(scores)), "sd": spread})
    return pd.DataFrame(rows)
