"""One module a change of the tables, in order; none is changed once it was released."""
