"""A catalogue of our own making for offline use: 120 invented products in the official file formats.

`make.py` writes the files from `vocabulary.py` and a seed. Nothing in it comes from any shop or data set; scores on it
compare with nobody's.
"""
