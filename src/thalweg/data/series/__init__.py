"""Time series: tables of numbers with a time stamp in every row."""
