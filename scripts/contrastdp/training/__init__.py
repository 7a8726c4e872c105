"""Training of classifiers, standard and adversarial."""
