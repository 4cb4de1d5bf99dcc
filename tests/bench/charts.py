"""Results as SVG charts: what a delivered move costs, and how old moves are on arrival.

The same results always give the same bytes.
"""

import math
from html import escape

from report import header, measured, number

WIDTH = 880
LEFT = 230
RIGHT = 200
ROW = 20
SHAPE = 30
TOP = 66
BOTTOM = 62
# Values further apart than this are drawn on a logarithmic scale.
LINEAR_MAX = 30
# What delivered less than this did not do the work that its cost is told for.
DELIVERED_MIN = 0.98

STYLE = """
text{font:12px system-ui,sans-serif;fill:#1f2328}
.paper{fill:#fff}.title{font-size:15px;font-weight:600}.shape{font-weight:600}.faint{fill:#59636e}
.grid{stroke:#d8dee4}.own{fill:#0969da;stroke:#0969da}.peer{fill:#8c959f;stroke:#8c959f}
.floor{fill:#c8b273;stroke:#c8b273}.span{stroke-width:3}.late{fill:#fff;stroke-width:2}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.paper{fill:#0d1117}.faint{fill:#9198a1}.grid{stroke:#30363d}
.own{fill:#4493f8;stroke:#4493f8}.peer{fill:#7d8590;stroke:#7d8590}.floor{fill:#9e8a4f;stroke:#9e8a4f}
.late{fill:#0d1117}}
"""


def charts(document):
    """The charts by file name."""
    groups = set(document["groups"].get(shape) for shape in document["shapes"] if measured(document, shape))
    drawn = {}
    for group in groups:
        prefix = "" if group == "peers" else f"{group}-"
        of = {**document, "shapes": {shape: what for shape, what in document["shapes"].items() if document["groups"][shape] == group}}
        drawn |= {f"{prefix}cost.svg": cost(of), f"{prefix}age.svg": age(of)}
    return drawn


def cost(document):
    def values(one):
        return [one["cpu_us_per_delivered"]] if one.get("cpu_us_per_delivered") else []

    def draw(kind, places, y):
        (x,) = places
        return [f'<rect class="{kind}" x="{LEFT}" y="{y - 6}" width="{max(x - LEFT, 1):.1f}" height="12"/>']

    title = "Processor time per delivered move"
    return chart(document, title, "CPU-µs per delivered move, less is better", values, draw, 3)


def age(document):
    def values(one):
        return [one["age_ms"][0], one["age_ms"][2]] if one.get("age_ms") else []

    def draw(kind, places, y):
        median, late = places
        return [
            f'<path class="{kind} span" d="M{median:.1f} {y}H{late:.1f}"/>',
            f'<circle class="{kind}" cx="{median:.1f}" cy="{y}" r="4"/>',
            f'<circle class="{kind} late" cx="{late:.1f}" cy="{y}" r="4"/>',
        ]

    title = "Age of moves on arrival: median (filled) and 99 % (ring)"
    return chart(document, title, "milliseconds, less is better", values, draw, 1)


def chart(document, title, unit, values, draw, digits):
    shapes = [(shape, what, measured(document, shape)) for shape, what in document["shapes"].items()]
    shapes = [one for one in shapes if any(values(row) for _, row in one[2])]
    scale = Scale([value for *_, rows in shapes for _, one in rows for value in values(one)])
    bottom = TOP + sum(SHAPE + ROW * len(rows) for *_, rows in shapes)
    height = bottom + BOTTOM
    described = escape(f"{title}; {unit}")
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{described}">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        f'<text class="title" x="16" y="26">{escape(title)}</text>',
        f'<text class="faint" x="16" y="46">{escape(header(document))}</text>',
    ]
    for tick in scale.ticks:
        x = scale.place(tick)
        out.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom + 6}"/>')
        out.append(f'<text class="faint" x="{x:.1f}" y="{bottom + 22}" text-anchor="middle">{tick:,.10g}</text>')
    axis = unit + (" (logarithmic scale)" if scale.logarithmic else "")
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    out.append(f'<text x="{middle:.0f}" y="{bottom + 44}" text-anchor="middle">{escape(axis)}</text>')
    y = TOP
    for shape, what, rows in shapes:
        out.append(f'<text class="shape" x="16" y="{y + 20}">{escape(f"{shape}: {what}")}</text>')
        y += SHAPE
        for system, one in rows:
            said, found, middle = document["systems"][system], values(one), y + ROW // 2
            out.append(f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(said["label"])}</text>')
            places = [scale.place(value) for value in found]
            if found:
                out += draw(said["kind"], places, middle)
            words = " / ".join(number(value, digits) for value in found)
            words = words or ("failed" if "failed" in one else "–")
            if found and one["ratio"] < DELIVERED_MIN:
                words += f", {100 * one['ratio']:.0f} % delivered"
            x = max([LEFT, *places]) + 9
            out.append(f'<text class="faint" x="{x:.1f}" y="{middle + 4}">{escape(words)}</text>')
            y += ROW
    return "\n".join([*out, "</svg>"]) + "\n"


class Scale:
    """Where on the axis a value is."""

    def __init__(self, values):
        positive = [value for value in values if value > 0] or [1]
        least, most = min(positive), max(positive)
        self.logarithmic = most / least > LINEAR_MAX
        if self.logarithmic:
            round_ones = [step * 10.0**power for power in range(-6, 10) for step in (1, 2, 5)]
            first = max([one for one in round_ones if one < least], default=round_ones[0])
            last = min([one for one in round_ones if one >= most], default=round_ones[-1])
            self.ticks = [one for one in round_ones if first <= one <= last]
            if len(self.ticks) > 10:
                ends = (self.ticks[0], self.ticks[-1])
                self.ticks = [one for one in self.ticks if one in ends or math.log10(one).is_integer()]
        else:
            power = 10.0 ** math.floor(math.log10(most / 4))
            step = next(power * one for one in (1, 2, 5, 10) if most / (power * one) <= 6)
            first = 0.0
            self.ticks = [round(step * count, 9) for count in range(math.ceil(most / step) + 1)]
        self.first, self.last = self.position(self.ticks[0]), self.position(self.ticks[-1])

    def position(self, value):
        return math.log10(max(value, 1e-6)) if self.logarithmic else value

    def place(self, value):
        part = (self.position(value) - self.first) / (self.last - self.first)
        return LEFT + min(max(part, 0), 1) * (WIDTH - LEFT - RIGHT)
