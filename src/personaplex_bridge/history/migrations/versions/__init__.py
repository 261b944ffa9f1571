"""One module a version; a database that has come to one is never asked to do it again."""
