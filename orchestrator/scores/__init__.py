"""From the ledger, or from files, to tables of scores and ratings."""
