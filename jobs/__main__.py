"""`python -m jobs` is `shardscore`."""

from jobs.cli import run

if __name__ == "__main__":
    run()
