"""What is done to the shop in ``make torture``, and what it costs.

`load` sends requests that can be counted afterwards, `files` harms the file of the store, `clients`
behaves badly, `processes` kills and stops, `code` fails inside, `fuzz` runs the random tests for
longer, and `soak` goes on for minutes. `table` is what is printed.
"""
