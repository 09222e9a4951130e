"""Published results: numbers from papers, each with its source, and runs of one's own to put beside them.

`results.csv` is data of the package. A row is a number that its source states; what the source does not state is empty.
"""
