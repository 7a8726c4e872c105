"""Settings that the schema takes one by one and no job could run: one line each, in the dry run."""

import pytest
from configuration import add_arm, edit, told, with_row
from resolved_plans import resolved


def over(**settings):
    """Settings of the command line: section__key=value for each."""
    found = {}
    for path, value in settings.items():
        place = found
        *sections, key = path.split("__")
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return found


ENCODER = "classifiers__encoder__network"
TRAINED = "denoisers__unconditional__training"
DENOISER = "denoisers__unconditional__network"
TIMED = {"architecture": "time_unet", "width": 8, "depth": 1, "multipliers": [1, 2]}
TIMED |= {"attention": [4], "head_size": 8, "groups": 4}
ROBUST = "classifiers__robust_time"
UNET = {"architecture": "unet2d", "block_out_channels": [16, 16], "norm_num_groups": 8}
UNET |= {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        # networks, which were checked when a job built them
        ({ENCODER: {"architecture": "smal_cnn"}}, "did you mean small_cnn?"),
        ({ENCODER: {"architecture": "mnist_cnn"}}, "16 pixels a side, these have 8"),
        ({f"{ENCODER}__depth": 3}, "encoder.network: unknown key 'depth'"),
        ({f"{ENCODER}__width": 0}, "width is 0; it must be at least 1"),
        (
            {"training__network": {"architecture": "wide_resnet", "depth": 10, "width": 1}},
            "key 'mean' is missing",
        ),
        (
            {
                "training__network": {
                    "architecture": "wide_resnet",
                    "depth": 12,
                    "width": 1,
                    "mean": [0.5],
                    "std": [0.5],
                }
            },
            "depth is 12; make it 10, 16, 22, 28",
        ),
        (
            {
                "training__network": {
                    "architecture": "preact_resnet",
                    "width": 1,
                    "mean": [0.5, 0.5, 0.5],
                    "std": [0.5],
                }
            },
            "mean is [0.5, 0.5, 0.5]; write 1 numbers",
        ),
        (
            {f"{ROBUST}__network__attention": [5]},
            "robust_time.network: attention is at 5 pixels a side, and the levels have 8, 4",
        ),
        ({f"{ROBUST}__network__groups": 32}, "groups is 32, which does not divide 16"),
        ({f"{ROBUST}__network__multipliers": [1] * 5}, "can be halved 3 times between levels"),
        ({f"{ROBUST}__attack__eps": 0}, "attack.eps is 0; it must be above"),
        ({f"{ROBUST}__attack__step_size": "eps"}, "choose one of eps/6, 2.5 eps/steps"),
        ({f"{ROBUST}__anneal_steps": 9}, "robust_time: anneal_steps is 9, of"),
        ({"classifiers__encoder__anneal_steps": 900}, "small_cnn is none; remove it"),
        # classifiers of x_t and t, where images are judged
        (
            {ENCODER: TIMED},
            "encoder: classifier 'encoder' is a time-dependent one",
        ),
        (
            {"labelling__classifier": "robust_time"},
            "labelling.classifier: classifier 'robust_time'",
        ),
        ({"selection__encoder": "vanilla_time"}, "selection.encoder: classifier 'vanilla_time' is"),
        ({"guidances__hnm__encoder": "robust_time"}, "hnm, encoder: classifier 'robust_time' is"),
        ({"training__network": TIMED}, "time_unet takes noisy images and t; a robust training"),
        ({DENOISER: {"architecture": "unet"}}, "architecture 'unet' does not exist"),
        ({f"{DENOISER}__patch": 8}, "patch is 8; twice that must divide the image's side, 8"),
        ({f"{DENOISER}__width": 20}, "width is 20; make it a multiple of groups, 8"),
        ({f"{DENOISER}__embedding": 63}, "embedding is 63; it must be a multiple of 2"),
        (
            {DENOISER: {"architecture": "unet2d", "block_out_channel": [32]}},
            "did you mean block_out_channels?",
        ),
        (
            {
                DENOISER: {
                    "architecture": "unet2d",
                    "block_out_channels": [32, 32],
                    "down_block_types": ["DownBlock2D"],
                }
            },
            "differ in length",
        ),
        (
            {DENOISER: {**UNET, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]}},
            "choose one of DownBlock2D, AttnDownBlock2D, ResnetDownsampleBlock2D",
        ),
        ({DENOISER: {**UNET, "act_fn": "tanh"}}, "choose one of gelu, mish, relu, silu, swish"),
        (
            {DENOISER: {**UNET, "norm_num_groups": 5}},
            "norm_num_groups is 5, which does not divide 16",
        ),
        (
            {DENOISER: {**UNET, "attention_head_dim": 24}},
            "attention_head_dim is 24, which does not divide 16",
        ),
        # the chain
        ({"noise_schedule__num_train_timesteps": 19}, "samplers.ddim: steps is 20; choose 1 to 19"),
        ({"samplers__ddim__timesteps": [10, 20]}, "samplers.ddim: timesteps must fall strictly"),
        ({"samplers__ddim__timesteps": [1000, 0]}, "lie below 1000"),
        ({"noise_schedule__beta_end": 1.5}, "beta_end is 1.5; it must be below 1"),
        # guidance
        ({"guidances__classifier__time_dependent": True}, "unknown key 'guidances.classifier.time"),
        ({"guidances__hnm__window_low": 9, "guidances__hnm__window_high": 8}, "is above"),
        ({"guidances__hnm__window_low": 1000}, "window_low is 1000; choose at most 999"),
        ({"guidances__hnm__window_high": 1001}, "window_high is 1001; choose at most 1000"),
        ({"guidances__hnm__window_low": -5}, "window_low is -5; it must be at least 0"),
        ({"guidances__hnm__head": -3}, "head is -3; it must be at least 0"),
        ({"samplers__ddim__guidance_scale": 2.0}, "no label for 'no class'"),
        ({"guidances__classifier__target": 10}, "target is 10; classes are 0 to 9"),
        ({"guidances__hnm__target": 1}, "target is no setting of guidance"),
        ({"guidances__infonce__beta": 2}, "beta is no setting of guidance"),
        ({"guidances__classifier__normalise": True}, "normalise is no setting of guidance"),
        ({"guidances__classifier__pairs": "previous"}, "pairs is no setting of guidance"),
        ({"guidances__hnm__loss": "infonce"}, "tau_plus is no setting of guidance"),
        # robust training
        ({"training__synthetic_share": 0.001}, "synthetic_share 0.001 of a batch of 128 leaves"),
        ({"training__synthetic_share": 1}, "synthetic_share 1 of a batch of 128 leaves"),
        ({"training__batch": 1}, "of a batch of 1 leaves"),
        ({"training__cutmix": 1.0, "training__averaging": 0}, "cutmix helps averaged weights"),
        ({"training__cycle_momentum": True}, "cycle_momentum needs schedule one_cycle"),
        (
            {
                "training__schedule": "one_cycle",
                "training__epochs": 1,
                "training__epoch_images": 500,
                "training__validate_every": 1,
            },
            "one_cycle needs 2 epochs or more, here is 1",
        ),
        ({"training__validation_images": 201}, "the validation split has 200"),
        ({"training__validate_every": 601}, "validate_every is 601, of 600 steps"),
        ({"training__shift": 8}, "shift is 8; it must be below the image's side, 8"),
        ({"training__compiled": "gcc"}, "compiled is 'gcc'; choose one of aot_eager, cudagraphs"),
        ({"trainers__pgd__beta": 3.0}, "trainers.pgd: beta is 3.0, and loss pgd has no use"),
        ({"trainers__trades__loss": "mart", "training__cutmix": 1.0}, "loss mart needs one class"),
        ({"trainers__trades__bta": 1}, "unknown key 'trainers.trades.bta'; did you mean beta?"),
        # the denoiser's training
        ({f"{TRAINED}__warmup": 4001}, "training: warmup is 4001, of 4000 steps"),
        ({f"{TRAINED}__terms": {"noise_prediction": {"gamma": 1}}}, "noise_prediction.gamma'"),
        (
            {f"{TRAINED}__terms": {"noise_prediction": {"weighting": "v"}}},
            "choose one of noise, velocity",
        ),
        ({f"{TRAINED}__terms": {"x": {}}}, "terms.x'; known: noise_prediction"),
        ({"samplers__ddim__initialisation": "x"}, "choose one of gaussian"),
        ({"samplers__ddim__initial_scale": "2"}, "initial_scale is '2'"),
        # attack and measures
        ({"report__samples": 2001}, "report.samples is 2001; the grid shows images of one shard"),
        ({"attack__budget": {"mt_steps": 3}}, "neither version nor ablations spends it"),
        ({"sampling__shard": 251}, "sampling.shard 251 is no multiple of sampling.batch 250"),
        ({"quality__images": 19}, "19 images are measured; 10 groups and 5 neighbours need 20"),
        ({"quality__neighbours": 499}, "need 501"),
        # numbers that Python has and a setting does not
        ({"training__steps": 600.0}, "training.steps is 600.0; it must be of type integer"),
        ({"training__learning_rate": float("nan")}, "learning_rate is nan"),
        ({"guidances__hnm__lambda": float("inf")}, "lambda is inf"),
        ({"denoisers__Mine-2": {}}, "'Mine-2'"),
    ],
)
def test_what_could_not_run_is_refused(folder, settings, words):
    assert words in told(folder, **over(**settings))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"steps": "1001"}, "steps is 1001; choose 1 to 1000"),
        ({"steps": "0"}, "steps is 0; it must be at least 1"),
        ({"spacing": "evn"}, "did you mean even?"),
        ({"eta": "1.5"}, "eta is 1.5; it must be at most 1"),
        ({"eta": "nan"}, "eta is nan; it must be a finite number"),
        ({"guidance_scale": "2"}, "guidance_scale is 2.0, and the denoiser has no label"),
        ({"window_low": "2000"}, "window_low is above window_high"),
        ({"window_high": "2000"}, "window_high is 2000; choose at most 1000"),
        ({"guidance": "classifier", "clamp": "yes"}, "clamp is no setting of guidance"),
        ({"guidance": "infonce", "clamp": "yes"}, "clamp is no setting of guidance"),
    ],
)
def test_what_a_generators_cells_make_impossible_is_refused(folder, cells, words):
    with_row(folder, **cells)
    line = told(folder)
    assert line.startswith("config/generators.tsv, line 4 (contrastive_hnm): ")
    assert words in line


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"arm": "a/b"}, "arm is 'a/b'; write 1 to 80 small letters"),
        ({"eps": "9/10"}, "eps 9/10 makes step_size 9/4"),
        ({"batch": "1", "synthetic": "60"}, "of a batch of 1 leaves no room"),
        ({"selection": "", "synthetic": "60"}, "selection is empty"),
        ({"candidates": "nan", "synthetic": "60"}, "candidates is nan"),
        ({"real": "1097", "tables": "search"}, "real is every training image"),
        ({"real": "0"}, "real is 0; it must be at least 1"),
    ],
)
def test_what_an_arms_cells_make_impossible_is_refused(folder, cells, words):
    if "synthetic" in cells:
        cells = {"generator": "ddim", "selection": "none", "candidates": "1"} | cells
    add_arm(folder, **{"arm": "other", **cells})
    if "eps" in cells:
        edit(folder / "config.yaml", "step_size: 1/40", "step_size: 1/4")
    line = told(folder)
    assert line.startswith("config/arms.tsv, line ")
    assert words in line


def test_a_guidance_without_a_known_loss_is_refused(folder):
    line = "guidances:\n"
    edit(folder / "config.yaml", line, line + "  mine: {lambda: 9, at: state, window_low: 0, "
         "window_high: 1000, encoder_input: unit, direction: gradient}\n")  # fmt: skip
    assert "guidances.mine: loss of a guidance 'mine' does not exist" in told(folder)


def test_a_pretrained_denoiser_may_have_a_label_for_no_class(folder):
    with_row(folder, guidance_scale="2", denoiser="conditional")
    found = resolved(folder, denoisers={"conditional": {"pretrained": "someone/model"}})
    assert found.sampler("digits", "contrastive_hnm")["guidance_scale"] == 2.0


def test_a_classifier_is_time_dependent_in_all_data_sets_or_in_none(folder):
    common = "steps: 9, batch: 8, learning_rate: 0.01, weight_decay: 0, shift: 0"
    small = "architecture: small_cnn, width: 4, features: 4"
    timed = "architecture: time_unet, width: 32, depth: 1, multipliers: [2], attention: []"
    lines = (
        f"  {name}: {{classifiers: {{own: {{{common}, network: {{{network}}}}}}}}}"
        for name, network in (("digits", small), ("mnist", timed))
    )
    edit(folder / "scales" / "demo.yaml", "  digits: {}", "\n".join(lines))
    words = "mnist.yaml and digits.yaml: classifier 'own' is time-dependent in one of them alone"
    assert words in told(folder)


def test_the_cosine_schedule_needs_no_betas(folder):
    old = "noise_schedule: {num_train_timesteps: 1000, beta_start: 1.0e-4, beta_end: 0.02, "
    new = "noise_schedule: {num_train_timesteps: 1000, "
    edit(folder / "config.yaml", old, new)
    assert "'noise_schedule.beta_start' is missing" in told(folder)
    assert "'noise_schedule.beta_start' is missing" in told(
        folder, noise_schedule={"beta_schedule": "linear"}
    )
    found = resolved(folder, noise_schedule={"beta_schedule": "squaredcos_cap_v2"})
    assert "beta_start" not in found.datasets["digits"]["noise_schedule"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pages: robustness", "pages is 'robustness'; it must be of type array"),
        ("datasets: [digits]", "datasets is ['digits']; it must be of type object"),
        ("datasets: {digits: 3}", "datasets.digits is 3"),
        ("comparable: maybe", "comparable is 'maybe'; it must be of type boolean"),
        ("titel: demo", "unknown key 'titel'; did you mean title?"),
    ],
)
def test_a_scales_file_is_checked_too(folder, text, words):
    (folder / "scales" / "demo.yaml").write_text(text + "\n", encoding="utf-8")
    line = told(folder)
    assert line.startswith("config/scales/demo.yaml: ")
    assert words in line


# ---------------------------------------------------------------- what a data set has
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("classes: 10", "classes: 5", "classes is 5; the images of 'digits' have 10"),
        ("image_size: 8", "image_size: 9", "image_size is 9; the images of 'digits' have 8"),
        ("channels: 1", "channels: 3", "channels is 3; the images of 'digits' have 1"),
        ("test: 500", "test: 501", "are 1097 + 200 + 501; 'digits' has 1797 images for them"),
        ("train: 1097", "train: null", "sizes.train is null; give it a number"),
    ],
)
def test_a_data_set_is_what_its_reader_knows(folder, old, new, words):
    edit(folder / "datasets" / "digits.yaml", old, new)
    line = told(folder)
    assert line.startswith("config/datasets/digits.yaml: ")
    assert words in line


@pytest.mark.parametrize(
    ("dataset", "sizes", "words"),
    [
        ("mnist", "{train: 59001, validation: 1000, test: 5}", "59001 + 1000; 'mnist' has 60000"),
        ("mnist", "{train: null, validation: 60000, test: 5}", "1 + 60000; 'mnist' has 60000"),
        ("gtsrb", "{train: 1, validation: 1, test: 12631}", "test are 12631; 'gtsrb' has 12630"),
    ],
)
def test_sizes_are_at_most_the_archives(folder, dataset, sizes, words):
    scale = f"datasets: {{{dataset}: {{sizes: {sizes}}}}}\n"
    (folder / "scales" / "demo.yaml").write_text(scale, encoding="utf-8")
    assert words in told(folder)


def test_real_images_are_at_most_what_validation_leaves(folder):
    edit(folder / "scales" / "paper.yaml", "validation: 1024}  # the", "validation: 3000}  # the")
    assert "real is 38000; the training split has 36209 images" in told(folder, scale="paper")


def test_archives_have_the_names_that_the_reader_takes(folder):
    edit(folder / "datasets" / "cifar10.yaml", "  binary:", "  images:")
    line = told(folder, scale="smoke")
    assert "archives are images; its loader reads binary" in line


def test_a_data_set_without_a_loader_is_refused(folder):
    digits = (folder / "datasets" / "digits.yaml").read_text(encoding="utf-8")
    (folder / "datasets" / "digitz.yaml").write_text(digits, encoding="utf-8")
    (folder / "scales" / "demo.yaml").write_text("datasets: {digitz: {}}\n", encoding="utf-8")
    assert "loader of a data set 'digitz' does not exist; did you mean digits?" in told(folder)
