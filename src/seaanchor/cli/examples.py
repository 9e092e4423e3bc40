"""Examples below the help of each command. A test parses each of them."""

from functools import reduce

from cyclopts import App

EXAMPLES: dict[tuple[str, ...], tuple[str, ...]] = {
    (): ("seaanchor quickstart --output runs/quickstart", "seaanchor train lore-lite --output runs/lore"),
    ("train",): (
        "seaanchor train lore-lite --output runs/lore --dry-run",
        "seaanchor train lore-lite --epsilon 2/255 --rho 0.1 --max-steps 200 --output runs/lore",
        "seaanchor train lore --model ViT-B-32 --pretrained openai --train-data FOLDER --output runs/mine",
        "seaanchor train mine.yaml --resume auto",
    ),
    ("evaluate",): (
        "seaanchor evaluate --model runs/lore/export --data photos/test",
        "seaanchor evaluate --model seaanchor-lite --data photos/test --suite clean,apgd --samples 200",
        "seaanchor evaluate --model runs/a/export runs/b/export --data FOLDER --epsilon 4/255",
    ),
    ("sweep",): (
        "seaanchor sweep lore-lite --vary anchor.rho=0.03,0.1,0.3 --data photos/test --output runs/sweep",
        "seaanchor sweep lore-lite --vary lr=1e-4,1e-3 --data photos/test --output runs/lr --dry-run",
        "seaanchor sweep fare-lite --seeds 0,1,2 --data photos/test --samples 200 --output runs/seeds",
    ),
    ("export",): (
        "seaanchor export --model seaanchor-lite --output exports/lite",
        "seaanchor export --model runs/lore/export --output exports/lore --half",
        "seaanchor export --model runs/words/export --alpha 0.6 --output exports/words",
        "seaanchor export --model runs/lore/export --output exports/onnx --format onnx",
        "seaanchor export --model runs/lore/export --output exports/hub --push ORG/NAME",
    ),
    ("quickstart",): ("seaanchor quickstart", "seaanchor quickstart --output runs/first --seed 1"),
    ("report",): (
        "seaanchor report runs/lore",
        "seaanchor report runs/lore runs/fare --output report.html --gallery 0",
    ),
    ("app",): ("seaanchor app", "seaanchor app runs/lore --port 8000"),
    ("steer",): (
        "seaanchor steer runs/steer --t 0.5 --output exports/half",
        "seaanchor steer runs/steer --data photos/test --ts -1 0 1",
    ),
    ("recipes",): ("seaanchor recipes ls", "seaanchor recipes cp lore mine.yaml"),
    ("recipes", "ls"): ("seaanchor recipes ls", "seaanchor train fare-lite --dry-run"),
    ("recipes", "cat"): ("seaanchor recipes cat lore", "seaanchor recipes cat dpo-linear > mine.yaml"),
    ("recipes", "cp"): ("seaanchor recipes cp lore", "seaanchor recipes cp lore mine.yaml"),
    ("recipes", "validate"): ("seaanchor recipes cp lore mine.yaml", "seaanchor recipes validate mine.yaml"),
    ("attack",): (
        "seaanchor attack pgd --data photos/test --samples 40 --epsilon 2/255 --output attacked",
        "seaanchor attack typographic --data photos/test --output lettered",
    ),
    ("attack", "pgd"): (
        "seaanchor attack pgd --data photos/test --samples 40 --epsilon 2/255 --output attacked",
        "seaanchor attack pgd --data photo.jpg --class-names cat,dog,car --output attacked",
    ),
    ("attack", "apgd"): (
        "seaanchor attack apgd --data photos/test --samples 40 --epsilon 2/255 --output attacked",
        "seaanchor attack apgd --data FOLDER --model runs/lore/export --num-steps 50 --output attacked",
    ),
    ("attack", "typographic"): (
        "seaanchor attack typographic --data photos/test --output attacked",
        "seaanchor attack typographic --data FOLDER --output attacked --fonts unseen --words odd",
        "seaanchor attack typographic --data photos/test --model seaanchor-lite --output answers",
    ),
    ("data",): ("seaanchor data inspect photos/test", "seaanchor data build --data photos/test --output shards"),
    ("data", "inspect"): ("seaanchor data inspect photos/test", "seaanchor data inspect FOLDER"),
    ("data", "pairs"): (
        "seaanchor data pairs --data emoji-people --output pairs.jsonl",
        "seaanchor data pairs --data FOLDER --swap words.txt --flip --output pairs.jsonl",
    ),
    ("data", "import"): (
        "seaanchor data import preferences.parquet --output imported",
        "seaanchor data import USER/NAME --split train --samples 1000 --output imported",
    ),
    ("data", "build"): (
        "seaanchor data build --data photos/test --output shards",
        "seaanchor data build --data FOLDER --output shards --split train --image-size 224",
    ),
    ("data", "emoji-scenes"): (
        "seaanchor data emoji-scenes --output scenes",
        "seaanchor data emoji-scenes --output scenes --train 40 --test 20 --image-size 96",
    ),
    ("cache",): ("seaanchor cache ls", "seaanchor cache clear"),
    ("cache", "ls"): ("seaanchor cache ls", "SEAANCHOR_CACHE=/scratch/cache seaanchor cache ls"),
    ("cache", "clear"): ("seaanchor cache ls", "seaanchor cache clear"),
    ("env",): ("seaanchor env", "seaanchor env > environment.json"),
}
"""Commands that run as they stand, once FOLDER, and names of runs and files, are there."""


def add_examples(app: App) -> None:
    """Put the examples below the help of each command."""
    for names, lines in EXAMPLES.items():
        command = reduce(lambda above, name: above[name], names, app)
        command.help_epilogue = "Examples:\n" + "\n".join(f"  {line}" for line in lines)
