"""What find_copies.py found where the copies are known: `prepare_data.py dead_leaves --nb_copies`, photo_folder.py.

python benchmarks/found_copies.py data/experiments/.../copies.json
"""

import argparse
import json
from itertools import combinations
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", type=Path, help="copies.json, as find_copies.py writes it")
    path = parser.parse_args().groups
    if not path.is_file():
        parser.error(f"{path} does not exist: run find_copies.py")
    content = json.loads(path.read_text())
    groups = [[Path(picture["path"]).name for picture in group] for group in content["groups"]]
    pairs = [pair for group in groups for pair in combinations(group, 2)]
    found = sum(one == other for one, other in pairs)
    nb_copies = sum(1 for _ in Path(content["folder"], "copies").glob("*.jpg"))
    nb_others = content["nb_pictures"] * (content["nb_pictures"] - 1) // 2 - nb_copies
    print(f"of {nb_copies} edited copies, {found} are in a group with their original ({found / nb_copies:.0%})")
    print(f"of {nb_others:,} pairs of different pictures, {len(pairs) - found} are in a group")


if __name__ == "__main__":
    main()
