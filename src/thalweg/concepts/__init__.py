"""The concepts of the talk, a folder each: the words, the computation, the plot."""
