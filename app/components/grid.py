"""Grids: AG Grid in our colours, rows in the page or read from the server piece by piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_ag_grid as dag

_LIGHT = (
    "backgroundColor:'#ffffff',foregroundColor:'#1d2430',headerBackgroundColor:'#f4f5f8',borderColor:'#dde1e7',"
    "rowHoverColor:'#eef1fb',selectedRowBackgroundColor:'#e0e6fb',oddRowBackgroundColor:'#ffffff'"
)
_DARK = (
    "backgroundColor:'#1f2227',foregroundColor:'#e6e8eb',headerBackgroundColor:'#272b31',borderColor:'#3a4048',"
    "rowHoverColor:'#2a3040',selectedRowBackgroundColor:'#2f3a60',oddRowBackgroundColor:'#1f2227',"
    "browserColorScheme:'dark'"
)
_SHARED = "accentColor:'#4263eb',fontFamily:'inherit',fontSize:13,headerFontWeight:600,wrapperBorderRadius:8,spacing:7"
THEME = {
    "function": f"themeQuartz.withParams({{{_SHARED}}}).withParams({{{_LIGHT}}},'light').withParams({{{_DARK}}},'dark')"
}
"""The mode is body[data-ag-theme-mode], which assets/scheme.js sets."""

COLUMN = {"sortable": True, "resizable": True, "minWidth": 90, "suppressHeaderMenuButton": False}
OPTIONS: Mapping[str, Any] = {
    "theme": THEME,
    "animateRows": False,
    "rowHeight": 38,
    "headerHeight": 38,
    "enableCellTextSelection": True,
    "ensureDomOrder": True,
    "suppressCellFocus": False,
    "tooltipShowDelay": 300,
}


def grid(
    id: Any,
    columns: Sequence[Mapping[str, Any]],
    label: str,
    *,
    rows: Sequence[Mapping[str, Any]] | None = None,
    row_id: str = "params.data.id",
    options: Mapping[str, Any] | None = None,
    height: str = "420px",
    column: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dag.AgGrid:
    """Return a grid named `label`: of `rows`, or with rows=None of rows that callbacks deliver (infinite model).

    columns are AG Grid's columnDefs; options are added to OPTIONS; height is CSS.
    """
    model = {"rowModelType": "infinite"} if rows is None else {"rowData": [dict(row) for row in rows]}
    return dag.AgGrid(
        id=id,
        columnDefs=[dict(item) for item in columns],
        defaultColDef={**COLUMN, **(column or {})},
        dashGridOptions={**OPTIONS, **(options or {})},
        getRowId=row_id,
        enableEnterpriseModules=False,
        className="hb-grid",
        style={"height": height, "width": "100%"},
        **model,
        **settings,
    )
