"""The list of clips that somebody wrote: read, whatever its layout."""
