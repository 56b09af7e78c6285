#!/usr/bin/env bash
# Build the wheel, install it into a folder of its own, and run it from elsewhere: what a user gets works.
# usage: PYTHON=.venv/bin/python tests/smoke_wheel.sh
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --wheel --no-isolation --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index --target "$work/site" "$work"/dist/*.whl
cd "$work"
export PYTHONPATH="$work/site"
"$python" -P - "$work/site" <<'P'
import sys
import recon, recon_data, recon_operators, recon_priors
for package in (recon, recon_data, recon_operators, recon_priors):
    assert package.__file__.startswith(sys.argv[1]), f"{package.__name__} comes from {package.__file__}"
import torch
op = recon.operator("ct_parallel", shape=(32, 32), angles=24)
image = torch.zeros(32, 32)
image[10:22, 10:22] = 1.0
solution = recon.solve(op, "tv", op.measure(image, noise="gaussian:std=0.05"), weight=0.05)
assert (solution.image - image).abs().mean() < 0.05, "the wheel's solve is off"
page = solution.report("report.html", image).read_text()
assert "<canvas" in page and "class Viewer" in page and ".viewer {" in page, "the wheel's report lacks a file"
P
recon() { "$python" -P -c "import sys; from recon.cli import main; sys.exit(main())" "$@"; }
recon plugins
recon show operator ct_parallel >/dev/null
recon new prior my-prior >/dev/null
test -f my-prior/my_prior/prior.py
echo "wheel: ok"
