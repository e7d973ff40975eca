"""The generated pages that take more than a table: the public names and the commands."""
