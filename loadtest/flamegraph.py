"""A flame graph: where the processor's time went, as one static SVG, and the functions that take most of it.

    flamegraph.py TITLE OUT.svg < collapsed            lines of "outer;inner;innermost COUNT"
    perf script -F comm,ip,sym,dso | flamegraph.py --perf TITLE OUT.svg

Every box is a function, as wide as its share of the samples, on top of the one that called it; pointing at
it shows its name and figures. Of each function the shares by itself and with what it calls are printed.
"""

import collections
import re
import sys
import zlib
from html import escape

WIDTH, ROW, MARGIN, HEAD = 1400, 17, 10, 44
CHARACTER = 6.6  # the width of one, in the font below
NARROWEST = 0.4  # pixels; what is narrower is left out
TOP = 5


PERF_LINE = re.compile(r"\s*[0-9a-f]+ (.+?)(?: \(([^()]*)\))?$")


class Frame:
    def __init__(self):
        self.count = 0
        self.callees = collections.defaultdict(Frame)


def bare(name):
    """Without what compiler, linker and google-pprof append to it: these are parts of one function."""
    name = re.sub(r"(@@?[\w.]+)?(<[0-9a-f]+>)?$", "", name)
    return re.sub(r"(\.(lto_priv|constprop|isra|part|cold)(\.\d+)?)+$", "", name)


def read_collapsed(lines):
    """Yields (names from the outermost on, count)."""
    for line in lines:
        names, _, count = line.rstrip().rpartition(" ")
        if names:
            yield [bare(name) for name in names.split(";")], int(count)


def read_perf(lines):
    """The same from `perf script`: the thread's name, a line for each function from the innermost on, a blank line."""
    thread, names = None, []
    for line in [*lines, ""]:
        if not line.strip():
            if thread is not None and names:
                yield [thread, *reversed(names)], 1
            thread, names = None, []
        elif thread is None:
            thread = line.strip()
        else:
            name, place = PERF_LINE.match(line.rstrip()).groups()
            if name == "[unknown]" and place:
                name = f"[{place.rpartition('/')[2].partition('.so')[0]}]"  # a library without symbols of its own
            names.append(bare(name))


def gather(stacks):
    root = Frame()
    alone, with_callees = collections.Counter(), collections.Counter()
    for names, count in stacks:
        frame = root
        frame.count += count
        for name in names:
            frame = frame.callees[name]
            frame.count += count
        alone[names[-1]] += count
        for name in set(names):
            with_callees[name] += count
    return root, alone, with_callees


def colour(name):
    """The same name has the same colour, in every graph."""
    number = zlib.crc32(name.encode())
    return f"hsl({20 + number % 40},{60 + number // 40 % 25}%,{62 + number // 1000 % 14}%)"


def boxes(frame, name, x, level, scale):
    """Yields the SVG of a frame and of what it calls; the widest first, from the left."""
    width = frame.count * scale
    if width < NARROWEST:
        return
    yield level, x, width, name, frame.count
    for callee, below in sorted(frame.callees.items(), key=lambda item: (-item[1].count, item[0])):
        yield from boxes(below, callee, x, level + 1, scale)
        x += below.count * scale


def draw(root, title):
    drawn = list(boxes(root, "all", MARGIN, 0, (WIDTH - 2 * MARGIN) / root.count))
    height = HEAD + (max(box[0] for box in drawn) + 1) * ROW + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="monospace" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fffdf8"/>',
        f'<text x="{MARGIN}" y="26" font-size="15">{escape(title)}</text>',
    ]
    for level, x, width, name, count in drawn:
        y = height - MARGIN - (level + 1) * ROW
        fits = int((width - 4) / CHARACTER)
        label = name if len(name) <= fits else name[: fits - 1] + "…" if fits > 3 else ""
        text = f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(label)}</text>' if label else ""
        parts.append(
            f"<g><title>{escape(name)}: {count} samples, {100 * count / root.count:.2f} %</title>"
            f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.3):.1f}" height="{ROW - 1}" fill="{colour(name)}"/>'
            f"{text}</g>"
        )
    return "\n".join([*parts, "</svg>", ""])


def main(arguments):
    is_perf = arguments[:1] == ["--perf"]
    title, path = arguments[is_perf:]
    root, alone, with_callees = gather((read_perf if is_perf else read_collapsed)(sys.stdin))
    if root.count == 0:
        sys.exit("flamegraph: there are no samples")
    with open(path, "w", encoding="utf-8") as file:
        file.write(draw(root, f"{title}, {root.count} samples"))
    print(" alone  with callees  function")
    for name, count in alone.most_common(TOP):
        print(f"{100 * count / root.count:5.1f}%  {100 * with_callees[name] / root.count:11.1f}%  {name}")


if __name__ == "__main__":
    sys.setrecursionlimit(10000)
    main(sys.argv[1:])
