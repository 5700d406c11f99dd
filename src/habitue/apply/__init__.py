"""What a shop does with its customer model: one file per application, functions over tables."""
