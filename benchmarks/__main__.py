"""``make bench``: the benchmarks whose figures the documentation quotes. Without arguments, those that need no data.

python -m benchmarks                               # the sandbox, three seeds (about 25 minutes on two cores)
python -m benchmarks.human --data DIR --out runs/human
python -m benchmarks.stories --model DIR --out runs/stories
"""

from benchmarks.sandbox import main

if __name__ == "__main__":
    main()
