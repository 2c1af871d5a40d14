"""The main job: all pillars, one report.

The room is not called `report` because the public function `assay.report` is.
"""
