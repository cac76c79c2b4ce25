"""The Markdown tables of a file as JSON: a list of rows, each an object with the table's headings as keys."""

import json
import re
import sys


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


rows, headings = [], None
with open(sys.argv[1], encoding="utf-8") as text:
    for line in text:
        if not line.startswith("|"):
            headings = None
        elif headings is None:
            headings = cells(line)
        elif not re.fullmatch(r"[|\s:-]+", line):
            rows.append(dict(zip(headings, cells(line), strict=True)))
json.dump(rows, sys.stdout, indent=2, ensure_ascii=False)
print()
