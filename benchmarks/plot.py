"""The report as a picture: bars of medians, and a mark at what granite-storage may take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import Result

__all__ = ["plot"]


def plot(results: Sequence[Result], caption: str, path: Path) -> bool:
    """Draw the cases one below the other; False if none ran, or matplotlib is not installed.

    :param path: its suffix chooses the format, such as ``.svg``.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    drawn = [result for result in results if result.entries]
    if not drawn:
        return False
    bars = [sum(entry.median is not None for entry in result.entries) for result in drawn]
    figure = Figure(figsize=(9, 0.6 + sum(0.9 + 0.32 * count for count in bars)), layout="constrained")
    panels = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=[1 + count for count in bars])
    for panel, result in zip(panels[:, 0], drawn, strict=True):
        entries = [entry for entry in result.entries if entry.median is not None][::-1]
        medians = [entry.median or 0.0 for entry in entries]
        spread = [
            [median - (entry.low or 0.0) for median, entry in zip(medians, entries, strict=True)],
            [(entry.high or 0.0) - median for median, entry in zip(medians, entries, strict=True)],
        ]
        colours = ["#9aa5b1"] * (len(entries) - 1) + ["#2f6f4f"]
        panel.barh([entry.name for entry in entries], medians, xerr=spread, color=colours, ecolor="#444444", capsize=2)
        for height, entry in enumerate(entries):
            if entry.goal is not None and entry.median is not None:
                limit = entry.goal * entry.median
                panel.plot([limit, limit], [height - 0.45, height + 0.45], color="#b5432f", linewidth=2)
        panel.set_title(result.title, loc="left", fontsize=10)
        panel.set_xlabel(f"{result.unit}; less is better; red: what granite-storage may take by that line", fontsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(caption, fontsize=7)
    figure.savefig(path)
    return True
