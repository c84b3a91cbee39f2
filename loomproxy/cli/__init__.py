"""The command line: from an argv to one role. Thin; each command is imported when it is called."""
