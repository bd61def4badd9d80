"""`python -m remanence` is the command line."""

from remanence.cli import main

if __name__ == "__main__":
    main()
