"""``python -m cortical`` is the command `cortical`."""

from cortical.cli import main

if __name__ == "__main__":
    main()
