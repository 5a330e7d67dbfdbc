"""The Open Inference Protocol over gRPC, with the answers of its REST calls."""
