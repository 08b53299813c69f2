"""Run a study, configs times seeds, and compare what comes out.

    compare.py configs/studies/cifar10.yaml

What stands in the results is not run again; what was interrupted goes on.
"""

from study.main import main

if __name__ == '__main__':
    main(__doc__)
