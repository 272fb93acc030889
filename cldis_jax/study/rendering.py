"""A collected table as text, Markdown, LaTeX and CSV."""

import csv
import io

from cldis_jax.evaluation import tables
from cldis_jax.runtime import report
from cldis_jax.study.cells import Column
from cldis_jax.study.collecting import Collected, Row, Score, Section

LATEX = {
    **{symbol: f"\\{symbol}" for symbol in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "β": r"$\beta$",
}


def find(row: Row, column: Column) -> Score | None:
    names = (f"{column.metric}/{name}" for name in column.names)
    return next((row.scores[name] for name in names if name in row.scores), None)


def number(row: Row, column: Column) -> str:
    """The mean with its interval, or with a source's own ±; or the reason why there is none."""
    score = find(row, column)
    if score is not None:
        form = ("+" if row.kind == "difference" else "") + column.format
        interval = "" if score.low is None else f" [{score.low:{form}}, {score.high:{form}}]"
        return f"{score.mean:{form}}" + interval + ("" if score.std is None else f" ± {score.std:{form}}")
    if row.kind != "ours":
        return "-"
    return column.without if row.scores else row.seeds


def header(collected: Collected) -> tuple[str, ...]:
    return ("method", "latent", *(column.label for column in collected.table.columns), "seeds", "source")


def lines(collected: Collected, rows: tuple[Row, ...]) -> list[tuple[str, ...]]:
    """The cells of rows, as text."""
    columns = collected.table.columns
    return [
        (row.method, row.latent, *(number(row, column) for column in columns), row.seeds or "-", row.source)
        for row in rows
    ]


def against(section: Section) -> str:
    """What the differences of a section are."""
    first = section.rows[0]
    return f"{first.method}, {first.latent}, minus each other row"


def to_text(collected: Collected) -> str:
    parts = []
    for section in collected.sections:
        parts.append(f"{section.label}\n\n{report.table(lines(collected, section.rows), header(collected))}")
        if section.differences:
            differences = report.table(lines(collected, section.differences), header(collected))
            parts.append(f"{section.label}: {against(section)}\n\n{differences}")
    return "\n\n".join([*parts, "\n".join([*collected.table.notes, *failures(collected)])])


def to_markdown(collected: Collected) -> str:
    parts = [f"# {collected.table.name}, scale {collected.table.scale}\n"]
    for section in collected.sections:
        parts += [f"## {section.label}\n", tables.markdown(header(collected), lines(collected, section.rows))]
        if section.differences:
            parts.append(f"### {section.label}: {against(section)}\n")
            parts.append(tables.markdown(header(collected), lines(collected, section.differences)))
    parts.append("".join(f"- {note}\n" for note in (*collected.table.notes, *failures(collected), *_origin(collected))))
    parts += ["## Cells\n", tables.markdown(("cell", "status", "training, min", "evaluation, min"), _times(collected))]
    return "\n".join(parts)


def to_latex(collected: Collected) -> str:
    """A tabular for the package booktabs; a rule separates the floors and the published rows from ours."""
    columns = collected.table.columns
    width = len(columns) + 3
    head = ("Method", "Latent", *(column.label for column in columns), "Seeds")
    body = [f"\\begin{{tabular}}{{ll{'c' * len(columns)}c}}", "\\toprule", _latex_line(head)]
    for section in collected.sections:
        body += ["\\midrule", f"\\multicolumn{{{width}}}{{l}}{{\\emph{{{latex(section.label)}}}}} \\\\"]
        kind = "ours"
        for row, cells in zip(section.rows, lines(collected, section.rows)):
            if row.kind != kind:
                body.append(f"\\cmidrule(lr){{1-{width}}}")
                kind = row.kind
            if row.kind == "published":
                cells = (f"{row.method} [{row.source}]", *cells[1:])
            body.append(_latex_line(cells[:width]))
    notes = [f"% {note}" for note in (*collected.table.notes, *failures(collected))]
    return "\n".join([*notes, *body, "\\bottomrule", "\\end{tabular}"]) + "\n"


def latex(text: str) -> str:
    return "".join(LATEX.get(symbol, symbol) for symbol in text)


def _latex_line(cells: tuple[str, ...]) -> str:
    return " & ".join(latex(cell) for cell in cells) + r" \\"


def to_csv(collected: Collected) -> str:
    """One line a score, at full precision, with the value of each seed (`seed:value`); also the differences.

    A row without scores has one line with the reason.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    values = ("mean", "low", "high", "std", "by_seed")
    writer.writerow(("dataset", "kind", "method", "latent", "metric", "name", *values, "seeds", "source"))
    for section in collected.sections:
        for row in (*section.rows, *section.differences):
            start, end = (section.dataset, row.kind, row.method, row.latent), (row.seeds, row.source)
            for key, score in row.scores.items():
                metric, _, name = key.partition("/")
                by_seed = " ".join(f"{seed}:{value}" for seed, value in score.by_seed.items())
                writer.writerow((*start, metric, name, score.mean, score.low, score.high, score.std, by_seed, *end))
            if not row.scores:
                writer.writerow((*start, *("",) * (2 + len(values)), *end))
    return text.getvalue()


def failures(collected: Collected) -> list[str]:
    """A line for each reason why cells have no numbers, with the number of those cells."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in collected.cells:
        if cell["status"] != "done":
            reasons.setdefault((cell["status"], cell["error"]), []).append(cell["id"])
    return [
        f"{status}: {ids[0]}" + (f" and {len(ids) - 1} more" if len(ids) > 1 else "") + (f": {error}" if error else "")
        for (status, error), ids in reasons.items()
    ]


def _origin(collected: Collected) -> list[str]:
    """The commits and machines of the numbers."""
    done = [cell for cell in collected.cells if cell["status"] == "done"]
    commits = dict.fromkeys(commit for cell in done for commit in cell["commit"].split(", ") if commit)
    later = dict.fromkeys(commit for cell in done for commit in cell["evaluation_commits"] if commit not in commits)
    machines = dict.fromkeys(f"{cell['machine']['cpu']}, {cell['machine']['cores']} cores" for cell in done)
    scored = [f"scored at commit {commit}" for commit in later]
    return [f"commit {commit}" for commit in commits] + scored + [f"machine: {machine}" for machine in machines]


def _times(collected: Collected) -> list[tuple[str, ...]]:
    def minutes(seconds):
        return "-" if seconds is None else f"{seconds / 60:.1f}"

    return [
        (cell["id"], cell["status"], minutes(cell["training_seconds"]), minutes(cell["evaluation_seconds"]))
        for cell in collected.cells
    ]
