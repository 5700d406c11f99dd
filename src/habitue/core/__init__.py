"""Table contracts, lake, metrics, settings, errors and late imports: what every stage may import."""
