"""Making, training and measuring detectors. Nothing above imports from here."""
