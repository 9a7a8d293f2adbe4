"""Closed-loop evaluation: an exported bundle drives the simulator, and the simulator judges.

cli ── suites (what is run) ── runner (processes) ── episodes (one seed) ── rollout (one stage)
 │                                                    ├── videos (which human video is shown)
 │                                                    └── looks (light, colours, camera)
 ├── store (one JSON line per episode: resumable)
 ├── summary (rows, intervals, means) ── report, chart
 └── failures (MP4s of episodes run again)
"""
