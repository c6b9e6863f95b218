"""The command line: a file per family of commands; all output to a person happens here."""
