"""Copies among the pictures of a folder, for find_copies.py.

encoder.py       picture files to logits, by a network of task PictureCopies
store.py         the logits of files that are known, in one file
collection.py    a folder and its store: what is new, changed or gone
groups.py        pictures with equal fingerprints; the copies of a query
tables.py        the groups as CSV and JSON
page.py          the groups as one page
"""
