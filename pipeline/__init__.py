"""shardscore's library: from a Parquet shard to predictions, and back to Parquet.

Importing the package loads neither TensorFlow nor pyarrow; its modules bring what they need.
ARCHITECTURE.md beside this file tells the modules apart.
"""
