"""The style sheet of the HTML report: light and dark, no outside resources."""

from __future__ import annotations

CAUSES = (
    "file-content",
    "file-metadata",
    "dir-entry",
    "inode-timestamp",
    "superblock-stamp",
    "journal",
    "allocation",
    "bootmap",
    "partition-table",
    "gpt-backup-moved",
    "container-header",
    "compression",
    "padding",
    "unread",
    "unknown",
)
_HUES = (212, 265, 300, 175, 130, 38, 20, 340, 235, 200, 85, 60, 220, 280, 0)

STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --text: #1c2430; --quiet: #5c6878;
  --line: #dde2e9; --link: #0b62c4; --add: #116329; --add-ground: #e3f6e8; --del: #a40e26; --del-ground: #fdebec;
  --mod: #7a4d00; --mod-ground: #fff3d6; --code: #f0f2f5; --sat: 58%; --light: 52%; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161c; --card: #1a2028; --text: #e3e8ef; --quiet: #98a4b3;
  --line: #2d3642; --link: #6db3ff; --add: #6fdc8c; --add-ground: #14301d; --del: #ff8f8f; --del-ground: #3a1a1d;
  --mod: #ffcb6b; --mod-ground: #352a12; --code: #12161c; --sat: 52%; --light: 58%; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.45rem; line-height: 1.3; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0; display: inline; }
section, .part { background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: 0 0 1rem;
  padding: 1rem 1.1rem; }
code, pre, .mono { font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.side { border-left: 4px solid var(--link); padding-left: .8rem; overflow-wrap: anywhere; }
.side + .side { border-color: hsl(265 var(--sat) var(--light)); }
.side strong { font-size: 1.05rem; }
.quiet { color: var(--quiet); }
.account { display: flex; flex-wrap: wrap; align-items: baseline; gap: .3rem 1rem; }
.account b { font-size: 1.25rem; }
.ok b { color: var(--add); } .bad b { color: var(--del); }
.bar { display: flex; height: 14px; border-radius: 7px; overflow: hidden; background: var(--line); margin: .7rem 0; }
.bar span { min-width: 3px; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 0; padding: 0; list-style: none; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em; }
summary { cursor: pointer; border-radius: 6px; list-style-position: inside; }
summary:focus-visible, a:focus-visible, pre:focus-visible { outline: 3px solid var(--link); outline-offset: 3px; }
.amount { float: right; color: var(--quiet); font-variant-numeric: tabular-nums; }
.file { margin: .7rem 0 0; padding-top: .6rem; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
.badge { display: inline-block; min-width: 1.6em; text-align: center; border-radius: 5px; font-weight: 700;
  margin-right: .5em; color: var(--mod); background: var(--mod-ground); }
.badge.A { color: var(--add); background: var(--add-ground); }
.badge.D { color: var(--del); background: var(--del-ground); }
.words { margin: .35rem 0 0 2.2rem; padding: 0; list-style: none; }
.words li { display: inline-block; margin: 0 .4rem .3rem 0; padding: .05rem .45rem; border-radius: 5px;
  background: var(--code); overflow-wrap: anywhere; }
.plus { color: var(--add); background: var(--add-ground) !important; }
.minus { color: var(--del); background: var(--del-ground) !important; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem;
  overflow-x: auto; margin: .5rem 0 0; }
pre span { display: block; white-space: pre; width: max-content; min-width: 100%; }
table { border-collapse: collapse; width: 100%; margin-top: .8rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .7rem .4rem 0; border-top: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; font-size: .85rem; border-top: 0; }
td:first-child { white-space: nowrap; }
td.num, th.num { text-align: right; padding-right: 0; font-variant-numeric: tabular-nums; white-space: nowrap; }
td .mono { color: var(--quiet); overflow-wrap: anywhere; }
ul.plain { margin: .4rem 0 0; padding-left: 1.2rem; } ul.plain li { overflow-wrap: anywhere; }
.problem { border-left: 4px solid var(--del); }
.scroll { overflow-x: auto; }
footer { text-align: center; font-weight: 600; padding: .5rem; }
@media (max-width: 40rem) { .sides { grid-template-columns: 1fr; } .amount { float: none; display: block; } }
@media print { body { background: #fff; } section, .part { break-inside: avoid; } }
""" + "".join(
    f".c-{cause} {{ background: hsl({hue} {'0%' if cause == 'padding' else 'var(--sat)'} var(--light)); }}\n"
    for cause, hue in zip(CAUSES, _HUES, strict=True)
)
