"""Turns an instruction into motion: plan, imagine, prepare, roll out, stage by stage."""
