"""What pytest must leave alone here: scripts that other environments run."""

collect_ignore = ["vllm_rank.py", "fetch_code.py"]
