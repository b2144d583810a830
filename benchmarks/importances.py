"""Which key mattered, from few trials: fANOVA against PED-ANOVA, Optuna's default.

Command: python benchmarks/importances.py [--quick] [--json]

Claim: of simulated trials over two keys, one of which decides, fANOVA gives that key the larger
share far more often than PED-ANOVA does.
Baseline: PED-ANOVA on the same trials.
Where it loses: a learning rate that is best in the middle, which PED-ANOVA finds in more draws.
"""

import argparse
import json
import logging
import math
import random
import warnings
from itertools import product

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)

DRAWS = 24
NOISE = 0.1
SPACE: dict[str, BaseDistribution] = {
    "rank": CategoricalDistribution([32, 64, 128]),
    "learning_rate": FloatDistribution(1e-3, 3e-3, log=True),
}
SHAPES = {
    "rising": lambda x: x,
    "best in the middle": lambda x: 1 - 2 * abs(x - 0.5),
    "refused from 0.6 on": lambda x: x if x < 0.6 else -5 - x,
}
"""The objective by the deciding key's place in its range, 0 to 1."""


def draw(rng: random.Random, decides: str, shape: str) -> optuna.trial.FrozenTrial:
    """A completed trial at a random point."""
    place = {"rank": rng.choice([0.0, 0.5, 1.0]), "learning_rate": rng.random()}
    params = {
        "rank": [32, 64, 128][int(2 * place["rank"])],
        "learning_rate": 1e-3 * math.exp(place["learning_rate"] * math.log(3)),
    }
    value = SHAPES[shape](place[decides]) + rng.gauss(0, NOISE)
    return optuna.trial.create_trial(params=params, distributions=SPACE, value=value)


def main() -> None:
    """Print a row for each number of trials, key and shape: how often the key came first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 draws of 8 trials")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("optuna").setLevel(logging.ERROR)
    rng, draws = random.Random(0), 4 if options.quick else DRAWS
    evaluators: dict[str, BaseImportanceEvaluator] = {
        "fanova": FanovaImportanceEvaluator(seed=0),
        "ped_anova": PedAnovaImportanceEvaluator(),
    }
    rows = []
    for trials, decides, shape in product((8,) if options.quick else (8, 16), SPACE, SHAPES):
        found = dict.fromkeys(evaluators, 0)
        for _ in range(draws):
            study = optuna.create_study(direction="maximize")
            study.add_trials([draw(rng, decides, shape) for _ in range(trials)])
            for name, evaluator in evaluators.items():
                shares = get_param_importances(study, evaluator=evaluator)
                found[name] += max(shares, key=shares.__getitem__) == decides
        row = {"trials": trials, "decides": decides, "objective": shape}
        rows.append({**row, **{name: count / draws for name, count in found.items()}})
        if not options.json:
            print(json.dumps(rows[-1]), flush=True)
    means = {name: sum(row[name] for row in rows) / len(rows) for name in evaluators}
    result = {
        "name": "importances",
        "ratios": {"found, over PED-ANOVA": round(means["fanova"] / means["ped_anova"], 2)},
        "baseline": "PED-ANOVA",
        "conditions": {"rows": rows, "draws": draws, "noise": NOISE, "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
