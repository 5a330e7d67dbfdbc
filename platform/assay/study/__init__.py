"""Studies: the settings of a study (``spec``), one trial (``trial``), its run (``run``) and its finished models."""
