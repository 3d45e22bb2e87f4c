"""The peer of benchmarks.workbench: the same stored runs in pages as Dash's own tutorials would write them.

    python -m benchmarks.plain_dash --store FOLDER --run RUN --grid-run RUN

Each page is given its data once, when the server starts: reading the run is not part of what is compared.
/overview: one plotly bar an op name, live bytes over the step, and a DataTable of every op.
/grid:     Dash AG Grid in its default client-side model, with every op.
/graph:    dash-cytoscape with a node an op and a layout made in the browser. Only the first GRAPH_NODES ops:
           with four times as many the browser takes over half a minute.
"""

from __future__ import annotations

import argparse
from typing import Any

import dash_ag_grid
import dash_cytoscape
import pandas as pd
import plotly.express as px
from dash import Dash, Input, Output, dash_table, dcc, html
from waitress import create_server

from analyzer.run import Run
from app.store import open_store
from app.workbench import read_run

GRAPH_NODES = 5000
EXPANDED_NODES = 100
ANSWER_THREADS = 8


def table(run: Run) -> pd.DataFrame:
    """Return a row for each op, with the columns that our grid shows first."""
    rows = [
        {
            "index": op.index,
            "name": op.name,
            "module": op.scope,
            "line": op.source,
            "self_seconds": None if op.self_seconds is None else op.self_seconds.median,
            "flops": op.flops,
            "bytes": op.bytes_moved,
            "phase": op.phase,
        }
        for op in run.graph.ops
    ]
    return pd.DataFrame(rows)


def overview(run: Run) -> html.Div:
    """Return the page of a run."""
    ops = table(run)
    by_name = ops.groupby("name", as_index=False)["self_seconds"].sum().sort_values("self_seconds").tail(15)
    live = pd.DataFrame(run.memory.timeline, columns=["seconds", "bytes"])
    return html.Div(
        [
            html.H1(run.name),
            dcc.Graph(id="hot", figure=px.bar(by_name, x="self_seconds", y="name", orientation="h")),
            dcc.Graph(id="live", figure=px.line(live, x="seconds", y="bytes")),
            dash_table.DataTable(ops.to_dict("records"), id="ops", page_size=15, sort_action="native"),
        ]
    )


def grid(run: Run) -> html.Div:
    """Return the page with every op in the browser."""
    ops = table(run)
    columns = [{"field": name, "sortable": True, "filter": True} for name in ops.columns]
    return html.Div([dash_ag_grid.AgGrid(id="grid", rowData=ops.to_dict("records"), columnDefs=columns)])


def elements(run: Run, count: int) -> list[dict[str, Any]]:
    """Return the first `count` ops as nodes, and the edges between them."""
    nodes = [{"data": {"id": str(op.index), "label": op.name}} for op in run.graph.ops[:count]]
    pairs = {(edge.source, edge.target) for edge in run.graph.edges if max(edge.source, edge.target) < count}
    return nodes + [{"data": {"source": str(first), "target": str(second)}} for first, second in sorted(pairs)]


def first_nodes(run: Run) -> int:
    """Return how many ops the graph shows at first; some are left for the click."""
    return max(min(GRAPH_NODES, len(run.graph.ops) - EXPANDED_NODES), 1)


def graph(run: Run) -> html.Div:
    """Return the page with a node an op."""
    return html.Div(
        [
            html.Button("expand", id="expand"),
            dash_cytoscape.Cytoscape(
                id="graph-canvas",
                elements=elements(run, first_nodes(run)),
                layout={"name": "breadthfirst", "animate": False},
                style={"width": "100%", "height": "700px"},
            ),
        ]
    )


def make_app(run: Run, grid_run: Run) -> Dash:
    """Return the three pages."""
    app = Dash("plain_dash", serve_locally=True, suppress_callback_exceptions=True)
    pages = {"/overview": overview(run), "/grid": grid(grid_run), "/graph": graph(run)}
    app.layout = html.Div([dcc.Location(id="place"), html.Div(id="page")])

    @app.callback(Output("page", "children"), Input("place", "pathname"))
    def show(path: str) -> html.Div:
        return pages.get(path, html.Div())

    @app.callback(Output("graph-canvas", "elements"), Input("expand", "n_clicks"), prevent_initial_call=True)
    def expand(_clicks: int) -> list[dict[str, Any]]:
        return elements(run, first_nodes(run) + EXPANDED_NODES)

    return app


def main() -> None:
    """Serve on a free port of the loopback; the first line says which."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--grid-run", required=True)
    options = parser.parse_args()
    with open_store(options.store) as store:
        app = make_app(read_run(store, options.run), read_run(store, options.grid_run))
    server = create_server(app.server, host="127.0.0.1", port=0, threads=ANSWER_THREADS)
    print(f"http://127.0.0.1:{server.effective_port}", flush=True)
    server.run()


if __name__ == "__main__":
    main()
