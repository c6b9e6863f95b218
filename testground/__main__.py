"""`python -m testground` is the command `testground`."""

from testground.cli.app import main

if __name__ == "__main__":
    main()
