"""What happens to a record between the patient and the model, one modality a file."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
