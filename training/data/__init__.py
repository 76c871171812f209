"""Rows of many shapes become conversations: fetched, read, checked, mixed, split.

* ``sources``   where a data set's files come from, and bringing them here
* ``reading``   JSON, JSON lines, Parquet and text as numbered rows, one at a time
* ``shapes``    a row of one of the known shapes → ``Conversation``
* ``sets``      the recipe's data sets as one stream: checked, weighted, without duplicates, split
* ``lengths``   how long the rows are, in tokens

It must not know models, tokens or how training works.
"""
