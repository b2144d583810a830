"""A listening test as people take it: study, plans, web pages, and the end in the storage."""
