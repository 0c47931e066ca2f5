# Shorthands for dev.py, which sets everything up on a machine with only Python 3.11+.
.PHONY: demo test lint setup docs results
demo test lint setup docs results:
	python3 dev.py $@
