"""Titles, captions and file names of the figures and of section 3's table on the pages."""

GRADIENTS = "gradients"
# Figures of a data set by the name that the column `figures` of tables.tsv has for them.
FIGURES = {
    "guidance": {
        "title": "variants of the guidance, and its size",
        "caption": "Robust accuracy, mean over seeds; bars: 95% t interval over seeds, right "
        "over paired seeds. Size: norm of what is added to the predicted noise over that of "
        "the noise, in brackets on the right.",
        "file": "guidance_{dataset}",
    },
    "sizes": {
        "title": "accuracy against synthetic size",
        "caption": "Mean over seeds; error bars: 95% t interval over seeds. Dashed: no "
        "synthetic data.",
        "file": "sizes_{dataset}_{table}",
    },
    "samples": {
        "title": "the same noise with and without guidance",
        "caption": "Each column starts from the same noise; the first images, not chosen. "
        "Small figures: the label they were given.",
        "file": "samples_{dataset}",
    },
    "tsne": {
        "title": "features of two robust networks (t-SNE)",
        "caption": "Penultimate features of test images, seed 0.",
        "file": "tsne_{dataset}",
    },
    "real_sizes": {
        "title": "accuracy against the number of real images (Figure 3)",
        "caption": "Points: seeds; lines: their mean. Dashed: all real, no synthetic images.",
        "file": "real_sizes_{dataset}",
    },
    "data": {
        "title": "training images",
        "caption": "Drawn at random; small figures: the label.",
        "file": "data_{dataset}",
    },
    "guided_samples": {
        "title": "the same seed and class, unguided and guided by either classifier (Figure 2)",
        "caption": "Each column has one seed and class; the first images, not chosen. Small "
        "figures: the class that was asked for.",
        "file": "guided_samples_{dataset}",
    },
    GRADIENTS: {
        "title": "alignment of the classifiers' gradients over t",
        "caption": "Means over test images and the timesteps of a band, then over seeds; bars: "
        "95% t interval over seeds.",
        "file": "gradients_{dataset}",
    },
    "gradient_maps": {
        "title": "gradients of the true class over t (Figure 3)",
        "caption": "Each map is scaled to its own largest value, grey is 0. The first test "
        "images, not chosen; seed 0.",
        "file": "gradient_maps_{dataset}",
    },
    "targeted": {
        "title": "a targeted attack on either classifier at t = 0 (Figure 4)",
        "caption": "Above the arrow: the class that the attack seeks. Seed 0.",
        "file": "targeted_{dataset}",
    },
    "predicted": {
        "title": "predicted x_0 at uniform steps of the chain (Figure 5)",
        "caption": "The same seed and class, guided by either classifier.",
        "file": "predicted_{dataset}",
    },
}
# figures of the one table that shows them
SOLE = (
    *("guidance", "real_sizes"),
    *("guided_samples", GRADIENTS, "gradient_maps", "targeted", "predicted"),
)
THEORY = "theory"  # in the column `figures`: section 3, where the data set's report shows it
THEORY_TABLE = {
    "title": "Section 3: do the printed tables follow from the settings?",
    "caption": "Mean absolute difference to the printed values in points, share of values within 2 "
    "standard errors, and the share of the setting's own repetitions that fit as badly (p_fit), "
    "for the fitted setting and for Eq. 5 as printed. docs/theory.md says how both were found.",
    "file": "gaussian_verdicts",
}
THEORY_FIGURES = [
    {
        "title": "Figure 1: the three cases of Proposition 3.2",
        "caption": "Real means ±mu, and synthetic means orthogonal to mu, along mu, along "
        "mu − eps·1.",
        "file": "proposition_cases",
    },
    {
        "title": "Proposition 3.2: errors against the synthetic mean's angle and length",
        "caption": "Curves: estimator in the limit of many synthetic samples; means over trials.",
        "file": "proposition_errors",
    },
    {
        "title": "Theorem 3.4: synthetic samples needed for a robust accuracy, against c",
        "caption": "Both axes logarithmic; lines: fitted power laws with their slope.",
        "file": "theorem_samples",
    },
    {
        "title": "Figure 2: two Gaussians, plain and guided",
        "caption": "A diffusion model of the mixture; guidance as large as the predicted noise.",
        "file": "toy_figure_2",
    },
    {
        "title": "Figure 6: the mixture under each loss, started from N(0, I)",
        "caption": "Numbers: between-class over within-class distance, variance within a class, "
        "and the radius's coefficient of variation (a Gaussian blob 0.52, a filled disc 0.35, a "
        "ring 0).",
        "file": "toy_figure_6",
    },
    {
        "title": "Figure 7: the same, started from N(0, 4I)",
        "caption": "Numbers as in Figure 6.",
        "file": "toy_figure_7",
    },
    {
        "title": "Toy: the measures against the size of the guidance",
        "caption": "Size: norm of the guidance over that of the predicted noise.",
        "file": "toy_spreads",
    },
]
