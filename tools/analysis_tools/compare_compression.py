"""Compress a checkpoint in many ways and compare what comes out.

    compare_compression.py configs/studies/fips_cifar10.yaml

What stands in the results is not run again; what was interrupted goes on.
"""

from study.main import main

if __name__ == '__main__':
    main(__doc__)
