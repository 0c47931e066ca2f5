# Shorthands for dev.py, which sets everything up on a machine with only Python 3.11+.
.PHONY: demo test lint setup
demo test lint setup:
	python3 dev.py $@
