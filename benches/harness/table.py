"""Rows with their spread, and the ratios of one run."""

import statistics


class Samples(list):
    """What was measured, once a round."""

    @property
    def median(self):
        return statistics.median(self)

    def show(self, digits=0):
        if not self:
            return "-"
        one = f"{self.median:,.{digits}f}"
        return one if len(self) == 1 else f"{one} ({min(self):,.{digits}f}-{max(self):,.{digits}f})"


def percentile(values, fraction):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * fraction // 1) - 1)]


def ratio(ours, theirs):
    """Ours over theirs, round by round: each pair was measured one after the other."""
    return Samples([a / b for a, b in zip(ours, theirs) if b])


class Table:
    """A Markdown table."""

    def __init__(self, title, *head):
        self.title = title
        self.rows = [head]

    def add(self, *cells):
        self.rows.append([str(cell) for cell in cells])

    def __str__(self):
        lines = [" | ".join(row) for row in self.rows]
        lines.insert(1, "|".join("---" for _ in self.rows[0]))
        return f"### {self.title}\n\n" + "\n".join(f"| {line} |" for line in lines) + "\n"
