"""`python -m jobs` is `shardscore`."""

from jobs.cli import main

if __name__ == "__main__":
    main()
