"""The figures that the documentation quotes, each from a command.

python -m benchmarks.sandbox                       the whole road on three seeds (about 20 minutes on two cores)
python -m benchmarks.real --data DIR               a real pretrained chat model on real preferences (hours)
python -m benchmarks.methods, .bend, .noise        online methods, over-optimisation, wrong labels: three seeds each
python -m benchmarks.aggregation --base ...       what it is worth how votes become labels
python -m benchmarks.bands                         ranges of clean runs, for the explorer (20 minutes of a core)
python -m benchmarks.page                          docs/results.md from these
python -m benchmarks.peers, .scaling, .plan_check  speed and memory (``make bench``)
python -m benchmarks.speed_page                    docs/speed.md from these
python -m benchmarks.kernels                       why the fast paths are as they are
"""
