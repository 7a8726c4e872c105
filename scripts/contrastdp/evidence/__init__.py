"""What the results say: statistics, comparisons, and verdicts on the paper's claims."""
