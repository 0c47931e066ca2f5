"""The data sets that environments read but that are not ours to ship: what they are, and how they are fetched.

`catalogue.py` says where each comes from, under which licence and with which sums; `fetch.py` downloads a file so that
it can be resumed; `get.py` puts a whole data set where `palaestra.envs.data.data_folder` finds it, or nothing at all.
"""
