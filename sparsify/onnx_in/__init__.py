"""ONNX in: a file becomes a module that computes what the file says, with one small rule for each operator."""
