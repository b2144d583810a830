"""``python -m orchestrator``: the command where its script is not on the path, as in a job."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
