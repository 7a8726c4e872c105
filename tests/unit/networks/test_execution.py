"""How a network is computed changes its values by rounding alone; a missing compiler is told."""

import subprocess
import sys

from code_graph import ROOT
from torch import nn

from contrastdp.networks.execution import precision_of, training_pass


def test_the_plain_pass_is_the_network_itself():
    network = nn.Linear(2, 2)
    assert training_pass(network, precision="float32", compiled=None) is network


def test_the_precision_is_that_of_the_weights():
    network = nn.Linear(2, 2)
    assert precision_of(network) == "float32"
    assert precision_of(network.bfloat16()) == "bfloat16"


WITHOUT_A_COMPILER = """
import torch
from contrastdp.errors import InputError
from contrastdp.networks.execution import faster, training_pass

network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
passes = {"precision": "float32", "compiled": "inductor"}
compiled = training_pass(network, **passes), faster(network, compiled="inductor")
for call in (*compiled, faster(lambda x: network(x) + 1, compiled="inductor")):
    torch.compiler.reset()
    try:
        call(torch.ones(2, 4))
    except InputError as error:
        print(error)
"""


def test_a_missing_compiler_is_told_in_one_line(tmp_path):
    """On a machine whose PATH has no compiler, of every way to compile."""
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT / "scripts")}
    command = [sys.executable, "-c", WITHOUT_A_COMPILER]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("compiled 'inductor': torch cannot compile the network here (")
        assert line.endswith("); install a C++ compiler, or leave compiled out")
