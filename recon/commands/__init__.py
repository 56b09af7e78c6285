"""The commands that work on images and on plugins, one a file."""

from __future__ import annotations

import typer

from recon.commands.batch import batch_command
from recon.commands.benchmark import benchmark_command
from recon.commands.check import check_command
from recon.commands.convert import convert_command
from recon.commands.demo import demo_command
from recon.commands.evaluate import evaluate_command
from recon.commands.experiment import experiment_command
from recon.commands.new import new_command
from recon.commands.simulate import simulate_command
from recon.commands.slabs import slabs_command
from recon.commands.solve import solve_command
from recon.commands.sweep import sweep_command
from recon.commands.train import train_command

app = typer.Typer()
app.command("demo")(demo_command)
app.command("simulate")(simulate_command)
app.command("solve")(solve_command)
app.command("batch")(batch_command)
app.command("sweep")(sweep_command)
app.command("train")(train_command)
app.command("slabs")(slabs_command)
app.command("evaluate")(evaluate_command)
app.command("check")(check_command)
app.command("new")(new_command)
app.command("convert")(convert_command)
app.command("benchmark")(benchmark_command)
app.command("experiment")(experiment_command)
