"""What find_copies.py found among the pictures of `prepare_data.py dead_leaves --nb_copies`, where copies are known.

python benchmarks/found_copies.py data/experiments/.../copies.json
"""

import json
import sys
from itertools import combinations
from pathlib import Path


def main():
    content = json.loads(Path(sys.argv[1]).read_text())
    groups = [[Path(picture["path"]).name for picture in group] for group in content["groups"]]
    pairs = [pair for group in groups for pair in combinations(group, 2)]
    found = sum(one == other for one, other in pairs)
    nb_copies = sum(1 for _ in Path(content["folder"], "copies").glob("*.jpg"))
    nb_others = content["nb_pictures"] * (content["nb_pictures"] - 1) // 2 - nb_copies
    print(f"of {nb_copies} edited copies, {found} are in a group with their original ({found / nb_copies:.0%})")
    print(f"of {nb_others:,} pairs of different pictures, {len(pairs) - found} are in a group")


if __name__ == "__main__":
    main()
