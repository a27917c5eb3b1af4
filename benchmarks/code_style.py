"""Measure how the source reads: verbs, packed lines, expressions per 1,000 lines, sizes of files.

python benchmarks/code_style.py [FILE|FOLDER ...]
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "src" / "thalweg"
VERBS = set(
    """accept accumulate add adjust advance align all_gather all_reduce allocate annotate any append apply approximate
    as ask assemble assign atomic attach augment average backpropagate begin bind block broadcast build cache
    calculate call cancel cap capture cast center check choose claim clean clear clip close coerce collect color
    column combine compare complete composite compute configure connect convert copy count create crop cut decode
    default delete derive describe detach detect dilate disable discard display divide do download draw drop dump
    ellipsize embed empty enable encode ensure enter equalize erase escape estimate evaluate exit expand explain
    export extend extract fail feed fence fetch fill filter find finish fit fix flatten flip flush fold follow for
    format forward free freeze fsync from fuse gather generate get give group guess handle has hash help hide
    identify ignore index infer init initialize insert inspect install interpolate invalidate invert invoke is iter
    join keep label layout limit link list load locate lock log look lookup make map mark mask match measure merge
    minimize mirror mix move multiply name needs new normalize note notify observe on open optimize order overlay
    pack pad parse partition pick pin place plan plot pool pop prefetch predict prepare preprocess print probe
    project propagate prune pull push quantize quote raise range rank read rebuild record recompile recover redraw
    reduce refine refresh register reject release remove rename render repeat replace replay report request require
    resample rescale reset reshape resize resolve restore resume retry return rewrite rotate round run sample
    sanitize save scale scan score search seed select send serialize serve set shorten show shrink shuffle simulate
    skip sleep smooth solve sort split stack standardize start step stop store strip subtract suggest sum summarize
    supports suppress swap switch sync take tell test time to toggle track train transform translate trim truncate
    try unescape unfreeze unlock unpack update upsample use validate verify visit wait walk warn watch weigh with
    wrap write yield zero""".split()
)


def is_verb(name: str) -> bool:
    """Whether a function's name begins with a verb."""
    return name.lstrip("_").split("_")[0] in VERBS


def count(file: Path) -> Counter:
    """Count what is measured in one file."""
    text = file.read_text(encoding="utf-8")
    counts: Counter = Counter(lines=len(text.splitlines()), files=1)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("__"):
            counts["functions"] += 1
            counts["verbs"] += is_verb(node.name)
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Tuple)
            and isinstance(node.value, ast.Tuple)
        ):
            counts["packed assignments"] += 1
        elif isinstance(node, ast.IfExp):
            counts["conditional expressions"] += 1
            counts["nested conditional expressions"] += any(
                isinstance(inner, ast.IfExp) for inner in ast.walk(node) if inner is not node
            )
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            counts["comprehensions"] += 1
    return counts


def main() -> None:
    """Print the totals, and with paths given a line per file."""
    paths = [Path(word) for word in sys.argv[1:]] or [ROOT]
    files = sorted(file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path]))
    total: Counter = Counter()
    for file in files:
        counts = count(file)
        total += counts
        if sys.argv[1:]:
            print(f"{file}: {dict(counts)}")
        if counts["lines"] > 500:
            print(f"{file}: {counts['lines']} lines")
    print(f"{total['files']} files, {total['lines']} lines")
    print(f"functions whose name begins with a verb: {total['verbs'] / max(1, total['functions']):.1%}")
    for name in ("packed assignments", "conditional expressions", "comprehensions"):
        print(f"{name} per 1,000 lines: {1000 * total[name] / max(1, total['lines']):.1f}")
    print(f"nested conditional expressions: {total['nested conditional expressions']}")


if __name__ == "__main__":
    main()
