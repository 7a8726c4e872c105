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
DENOISER = "denoisers__unconditional__network"


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
        # the chain
        ({"noise_schedule__num_train_timesteps": 19}, "samplers.ddim: steps is 20; choose 1 to 19"),
        ({"samplers__ddim__timesteps": [10, 20]}, "samplers.ddim: timesteps must fall strictly"),
        ({"samplers__ddim__timesteps": [1000, 0]}, "lie below 1000"),
        ({"noise_schedule__beta_end": 1.5}, "beta_end is 1.5; it must be below 1"),
        # guidance
        ({"guidances__classifier__time_dependent": True}, "unknown key 'guidances.classifier.time"),
        ({"guidances__hnm__window_low": 1001}, "guidances.hnm: window_low is above window_high"),
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
        # attack and measures
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
