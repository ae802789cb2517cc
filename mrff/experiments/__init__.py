"""What is measured: comparisons, audits, report pages. The product never imports it."""
