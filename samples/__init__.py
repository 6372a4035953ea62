"""The embedded body, people and talks (data that ships with the project) and, in `builders`, the code that made them.

Others read the data files and `ids`; nobody imports the builders.
"""
